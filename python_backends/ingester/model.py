"""Hands over to trireme.triton.ingester: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.ingester import IngesterModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
