"""Hands over to trireme.triton.backends.sort: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.sort import SortModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
