"""Hands over to trireme.triton.backends.text_encoder: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.text_encoder import TextEncoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
