"""Hands over to trireme.triton.backends.rag: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.rag import RagModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
