"""Hands over to trireme.triton.text_encoder: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.text_encoder import TextEncoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
