"""Hands over to trireme.triton.rag: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.rag import RagModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
