"""GPU kernels between the matrix products of a packed encoder, in OpenAI's Triton language (not the server).

What runs as several operators in plain torch is one pass over memory here. Attention is the online softmax of
FlashAttention (arXiv:2205.14135) over blocks of packed tokens: a block may hold many short rows, so that texts of ten
tokens fill the matrix units as long ones do.
"""

# Kernels are compiled from this text: compile-time constants are upper case, their types are the compiler's.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803, PLR0917, PLR1714, E501

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from trireme.encode.packed.bert import Embeddings, Norm, Tokens

# Elements that one program of a LayerNorm holds.
NORM_ELEMENTS = 2048
POOL_BLOCK = 64
QUERY_BLOCK = 64
KEY_BLOCK = 64
POOL_MODES = {"mean": 0, "cls": 1, "max": 2, "mean_sqrt_len_tokens": 3, "weightedmean": 4, "lasttoken": 5}
LOG2_E = 1.4426950408889634


@triton.jit
def _norm_rows(summed, inside, weight, bias, column, eps, WIDTH: tl.constexpr):
    mean = tl.sum(summed, 1) / WIDTH
    centred = tl.where(inside, summed - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / WIDTH + eps)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    b = tl.load(bias + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    return centred * scale[:, None] * w[None, :] + b[None, :]


@triton.jit(do_not_specialize=["tokens"])
def _embed_kernel(
    ids, types, starts, word, position, segment, weight, bias, out, tokens, eps,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    is_row = row < tokens
    inside = is_row[:, None] & (column < WIDTH)[None, :]
    word_row = tl.load(ids + row, mask=is_row, other=0)
    type_row = tl.load(types + row, mask=is_row, other=0)
    place = row - tl.load(starts + row, mask=is_row, other=0)
    place = tl.where(is_row, place, 0)
    summed = tl.load(word + word_row[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(
        tl.float32
    )
    summed += tl.load(position + place[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(
        tl.float32
    )
    summed += tl.load(segment + type_row[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(
        tl.float32
    )
    normed = _norm_rows(summed, inside, weight, bias, column, eps, WIDTH)
    tl.store(out + row[:, None] * WIDTH + column[None, :], normed.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["tokens"])
def _add_norm_kernel(
    hidden, added, residual, weight, bias, out, tokens, eps,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < tokens)[:, None] & (column < WIDTH)[None, :]
    where = row[:, None] * WIDTH + column[None, :]
    summed = tl.load(hidden + where, mask=inside, other=0.0).to(tl.float32)
    summed += tl.load(residual + where, mask=inside, other=0.0).to(tl.float32)
    summed += tl.load(added + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    normed = _norm_rows(summed, inside, weight, bias, column, eps, WIDTH)
    tl.store(out + where, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["tokens"])
def _attention_kernel(
    qkv, starts, ends, out, tokens, scale,
    HIDDEN: tl.constexpr, SIZE: tl.constexpr, DEPTH: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * QUERIES
    last = tl.minimum(first + QUERIES, tokens) - 1
    head = tl.program_id(1)
    token = first + tl.arange(0, QUERIES)
    depth = tl.arange(0, DEPTH)
    is_token, is_depth = token < tokens, depth < SIZE
    source = qkv + head * SIZE
    query = tl.load(
        source + token[:, None] * (3 * HIDDEN) + depth[None, :],
        mask=is_token[:, None] & is_depth[None, :],
        other=0.0,
    )
    start = tl.load(starts + token, mask=is_token, other=0)
    end = tl.load(ends + token, mask=is_token, other=0)
    # Rows lie in order: the block's keys reach from its first row's start to its last row's end.
    lowest, highest = tl.load(starts + first), tl.load(ends + last)
    best = tl.full([QUERIES], -1.0e30, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, DEPTH], tl.float32)
    for begin in range(lowest, highest, KEYS):
        other = begin + tl.arange(0, KEYS)
        is_other = other < highest
        where = other[:, None] * (3 * HIDDEN) + depth[None, :]
        inside = is_other[:, None] & is_depth[None, :]
        key = tl.load(source + HIDDEN + where, mask=inside, other=0.0)
        value = tl.load(source + 2 * HIDDEN + where, mask=inside, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
        same_row = (other[None, :] >= start[:, None]) & (other[None, :] < end[:, None])
        score = tl.where(same_row, score, -1.0e30)
        highest_score = tl.maximum(best, tl.max(score, 1))
        share = tl.where(same_row, tl.exp2(score - highest_score[:, None]), 0.0)
        kept = tl.exp2(best - highest_score)
        total = total * kept + tl.sum(share, 1)
        mixed = mixed * kept[:, None] + tl.dot(share.to(value.dtype), value, input_precision=PRECISION)
        best = highest_score
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(
        out + token[:, None] * HIDDEN + head * SIZE + depth[None, :],
        mixed.to(out.dtype.element_ty),
        mask=is_token[:, None] & is_depth[None, :],
    )


@triton.jit
def _pool_kernel(
    hidden, offsets, out, MODE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = column < WIDTH
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    if MODE == 1 or MODE == 5:
        token = start if MODE == 1 else end - 1
        pooled = tl.load(hidden + token * WIDTH + column, mask=is_column, other=0.0).to(tl.float32)
    else:
        pooled = tl.full([BLOCK], -float("inf") if MODE == 2 else 0.0, tl.float32)
        for begin in range(start, end, STEP):
            token = begin + tl.arange(0, STEP)
            inside = (token < end)[:, None] & is_column[None, :]
            states = tl.load(hidden + token[:, None] * WIDTH + column[None, :], mask=inside, other=0.0).to(
                tl.float32
            )
            if MODE == 2:
                pooled = tl.maximum(pooled, tl.max(tl.where(inside, states, -float("inf")), 0))
            elif MODE == 4:
                pooled += tl.sum(states * (token - start + 1).to(tl.float32)[:, None], 0)
            else:
                pooled += tl.sum(states, 0)
        length = (end - start).to(tl.float32)
        if MODE == 0:
            pooled = pooled / length
        elif MODE == 3:
            pooled = pooled / tl.sqrt(length)
        elif MODE == 4:
            pooled = pooled / (length * (length + 1) / 2)
    tl.store(out + row * WIDTH + column, pooled, mask=is_column)


class KernelOperators:
    """The steps of trireme.encode.packed.bert.Operators, one kernel each. CUDA devices only."""

    def embed(self, tables: Embeddings, tokens: Tokens, dtype: torch.dtype) -> Tensor:
        """Sum of the three embeddings, normalized. [T, H]"""
        count, width = len(tokens.ids), tables.word.shape[1]
        out = torch.empty((count, width), dtype=dtype, device=tokens.ids.device)
        rows, block, warps = _norm_shape(width)
        _embed_kernel[(triton.cdiv(count, rows),)](
            tokens.ids, tokens.type_ids, tokens.starts, tables.word, tables.position, tables.segment,
            tables.norm.weight, tables.norm.bias, out, count, tables.norm.eps,
            WIDTH=width, ROWS=rows, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        return out

    def attend(self, qkv: Tensor, tokens: Tokens, heads: int) -> Tensor:
        """Attention of every token to its own row: [T, 3H] -> [T, H]."""
        count, hidden = len(qkv), qkv.shape[1] // 3
        size = hidden // heads
        out = torch.empty((count, hidden), dtype=qkv.dtype, device=qkv.device)
        _attention_kernel[(triton.cdiv(count, QUERY_BLOCK), heads)](
            qkv, tokens.starts, tokens.ends, out, count, LOG2_E / size**0.5,
            HIDDEN=hidden, SIZE=size, DEPTH=max(16, triton.next_power_of_2(size)),
            QUERIES=QUERY_BLOCK, KEYS=KEY_BLOCK, PRECISION="ieee" if qkv.dtype == torch.float32 else "tf32",
            num_warps=4, num_stages=3,
        )  # fmt: skip
        return out

    def expand(self, hidden: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        """activation(hidden x weight + bias): [T, H] -> [T, 4H]."""
        if activation == "gelu" and hidden.dtype == torch.float32:
            return functional.gelu(functional.linear(hidden, weight, bias))
        # cuBLAS adds the bias and GELU in its tanh form, or ReLU, while it writes the product.
        return torch._addmm_activation(bias, hidden, weight.t(), use_gelu=activation != "relu")

    def add_norm(self, hidden: Tensor, bias: Tensor, residual: Tensor, norm: Norm) -> Tensor:
        """norm(hidden + bias + residual), all [T, H] but the bias."""
        count, width = hidden.shape
        out = torch.empty_like(hidden)
        rows, block, warps = _norm_shape(width)
        _add_norm_kernel[(triton.cdiv(count, rows),)](
            hidden, bias, residual, norm.weight, norm.bias, out, count, norm.eps,
            WIDTH=width, ROWS=rows, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        return out

    def pool(self, hidden: Tensor, tokens: Tokens, mode: str) -> Tensor:
        """One float32 row of H per row of tokens. [R, H]"""
        rows, width = len(tokens.offsets) - 1, hidden.shape[1]
        out = torch.empty((rows, width), dtype=torch.float32, device=hidden.device)
        _pool_kernel[(rows, triton.cdiv(width, POOL_BLOCK))](
            hidden, tokens.offsets, out,
            MODE=POOL_MODES[mode], WIDTH=width, BLOCK=POOL_BLOCK, STEP=32, num_warps=4,
        )  # fmt: skip
        return out


def _norm_shape(width: int) -> tuple[int, int, int]:
    """Rows and columns of one program of a LayerNorm, and its warps."""
    block = triton.next_power_of_2(width)
    rows = max(1, NORM_ELEMENTS // block)
    return rows, block, 4
