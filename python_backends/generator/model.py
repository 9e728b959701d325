"""Hands over to trireme.triton.backends.generator: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.backends.generator import GeneratorModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
