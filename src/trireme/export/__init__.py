"""Checkpoints to ONNX. The only place, with build/, that imports torch."""
