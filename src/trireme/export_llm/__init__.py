"""Causal language models: from a checkpoint to a model that OpenVINO or vLLM serves, behind a parity gate."""
