"""Hands over to trireme.triton.backends.retriever: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.retriever import RetrieverModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
