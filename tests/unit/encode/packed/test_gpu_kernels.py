"""The GPU kernels against torch's operators, in OpenAI Triton's interpreter on the CPU, where it is installed."""

import os

import numpy as np
import pytest
import torch

from trireme.encode.engines.torch import _pack, _place
from trireme.encode.packed.bert import Embeddings, Norm, TorchOperators
from trireme.encode.packed.config import POOLINGS
from trireme.encode.session import TokenBatch

os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton", reason="OpenAI Triton is not installed: it comes with torch for CUDA")

# Of the interpreter with numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
LENGTHS = np.array([5, 1, 16, 70, 3, 130, 2, 64, 9], np.int64)
COUNT = int(LENGTHS.sum())
# Filled up as for a recorded graph.
FILLED = 320
HIDDEN, HEADS = 48, 3
PRECISIONS = [(torch.float32, 1e-5), (torch.float16, 2e-3)]


def norm():
    return Norm(torch.randn(HIDDEN), torch.randn(HIDDEN), 1e-12)


def place(size):
    rng = np.random.default_rng(0)
    batch = TokenBatch(rng.integers(0, 50, COUNT), rng.integers(0, 2, COUNT), LENGTHS)
    return _place(_pack(batch, size, has_segments=True), LENGTHS, size)


@pytest.fixture
def kernels():
    from trireme.encode.packed.gpu_kernels import KernelOperators

    torch.manual_seed(0)
    return KernelOperators()


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_embeddings_are_summed_and_normalized(dtype, tolerance, kernels):
    tables = Embeddings(torch.randn(50, HIDDEN), torch.randn(200, HIDDEN), torch.randn(2, HIDDEN), norm())
    found = kernels.embed(tables, place(FILLED), dtype)[:COUNT]
    expected = TorchOperators().embed(tables, place(COUNT), dtype)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_tokens_attend_to_their_own_row_alone(dtype, tolerance, kernels):
    qkv = torch.randn(FILLED, 3 * HIDDEN).to(dtype)
    found = kernels.attend(qkv, place(FILLED), HEADS)[:COUNT]
    expected = TorchOperators().attend(qkv[:COUNT], place(COUNT), HEADS)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_bias_and_residual_are_added_before_the_norm(dtype, tolerance, kernels):
    hidden, residual = torch.randn(COUNT, HIDDEN).to(dtype), torch.randn(COUNT, HIDDEN).to(dtype)
    bias, layer = torch.randn(HIDDEN).to(dtype), norm()
    found = kernels.add_norm(hidden, bias, residual, layer)
    expected = TorchOperators().add_norm(hidden, bias, residual, layer)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize("mode", POOLINGS)
def test_rows_are_pooled_without_what_lies_behind_them(mode, kernels):
    hidden = torch.randn(FILLED, HIDDEN)
    found = kernels.pool(hidden, place(FILLED), mode)
    expected = TorchOperators().pool(hidden[:COUNT], place(COUNT), mode)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
