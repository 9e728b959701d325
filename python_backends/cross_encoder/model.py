"""Hands over to trireme.triton.backends.cross_encoder: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.cross_encoder import CrossEncoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
