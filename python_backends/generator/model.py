"""Hands over to trireme.triton.generator: Triton loads the class by the name TritonPythonModel."""

from trireme.triton.generator import GeneratorModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
