"""Hands over to trireme.triton.best_first: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.best_first import BestFirstModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
