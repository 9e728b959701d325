"""Turns an ONNX graph in fp32 into an OpenVINO graph: as it is, or in static int8, scales fixed at build time.

Static int8: weights per output channel, activations per tensor with ranges seen on calibration texts, after
SmoothQuant (arXiv:2211.10438) has moved outliers from activations into weights. By NNCF.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trireme.artifacts.encoder_engines import GRAPH_FILE
from trireme.artifacts.manifest import TOKENIZER_FILE
from trireme.encode.pair_template import PairTemplate
from trireme.export.calibration import make_odd_texts, make_pairs, make_texts, read_paragraphs
from trireme.export.checkpoint import Checkpoint
from trireme.export.parity import Feeds

# How much of the outliers weights take over, from 0 to 1.
SMOOTHING = 0.7


def write_graph(
    source: Path, stage: Path, checkpoint: Checkpoint, precision: str, calibration: Path | None
) -> None:
    """Writes the ONNX file `source` into `stage`, which holds the tokenizer. Blocks for seconds to minutes.

    precision: fp32, fp16 (weights alone), or int8, for which `calibration` is a text file.
    """
    import openvino

    model = openvino.Core().read_model(source)
    if calibration is not None:
        paragraphs = read_paragraphs(calibration)
        is_ranker = checkpoint.kind == "cross_encoder"
        common: list[Any] = [*(make_pairs(paragraphs) if is_ranker else make_texts(paragraphs))]
        odd = make_odd_texts()
        texts = [*common, *(pairwise(odd) if is_ranker else odd)]
        if checkpoint.template:
            template = PairTemplate.parse(checkpoint.template)
            texts = [template.fill(*pair) for pair in texts]
        model = _quantize(model, stage / TOKENIZER_FILE, checkpoint.max_length, texts)
    _name_nodes(model)
    openvino.save_model(model, stage / GRAPH_FILE, compress_to_fp16=precision == "fp16")


def _name_nodes(model: Any) -> None:
    """Names nodes by their place: OpenVINO's numbers go on through the process, and a build must repeat."""
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() not in ("Parameter", "Result"):
            node.set_friendly_name(f"{node.get_type_name()}_{place}")


def _quantize(model: Any, tokenizer_file: Path, max_length: int, texts: Sequence[Any]) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(max_length)
    names = [node.get_any_name() for node in model.inputs]
    rows = [_feeds(tokenizer, text, names, i) for i, text in enumerate(texts)]
    with _quiet():
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(names=find_flat_tables(model)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING),
                # The widest range of any row: the mean of the rows' ranges cuts off rare tokens (decision 0005).
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


def find_flat_tables(model: Any) -> list[str]:
    """Names of the lookups in tables of one number a token, such as an adapter's.

    In int8 each number would have a scale of its own, which saves nothing; and OpenVINO 2026.4 dies of such a table
    when it loads the graph.
    """
    lookups = [node for node in model.get_ops() if node.get_type_name() == "Gather"]
    return [
        node.get_friendly_name()
        for node in lookups
        if node.input_value(0).get_node().get_type_name() == "Constant"
        and len(node.input_value(0).get_partial_shape()) == 1
    ]


def _feeds(tokenizer: Any, text: Any, names: Sequence[str], index: int) -> Feeds:
    """One row alone: padding would widen the ranges with tokens that nothing reads."""
    pair = text if isinstance(text, tuple) else (text,)
    row = tokenizer.encode(*pair)
    feeds: Feeds = {
        "input_ids": np.array([row.ids], np.int64),
        "attention_mask": np.ones((1, len(row.ids)), np.int64),
        "token_type_ids": np.array([row.type_ids], np.int64),
    }
    return {name: feeds[name] for name in names}


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back NNCF's bars and advice, and its usage reports, which this variable keeps from being sent."""
    before = logging.root.manager.disable
    told = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)
        if told is None:
            del os.environ["NNCF_CI"]
