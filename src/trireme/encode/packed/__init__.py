"""Encoders over packed rows, without padding: BERT, its kernels, and the residual reranker."""
