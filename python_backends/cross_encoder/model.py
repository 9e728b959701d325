"""Hands over to trireme.triton.cross_encoder: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.cross_encoder import CrossEncoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
