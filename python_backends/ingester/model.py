"""Hands over to trireme.triton.backends.ingester: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.ingester import IngesterModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
