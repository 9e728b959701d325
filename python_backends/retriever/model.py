"""Hands over to trireme.triton.retriever: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.retriever import RetrieverModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
