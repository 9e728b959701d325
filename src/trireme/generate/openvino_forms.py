"""The process that tries whether a form of an answer compiles: JSON lines in, JSON lines out.

OpenVINO GenAI compiles a form amid the step that first samples for it, with all other requests waiting, and one
that does not compile ends the pipeline (2026.4.1). So each form is compiled here first, by a pipeline over a graph
that computes nothing, with a bound on time; whoever asks bounds its memory.

Lines in:  {"kind": ..., "text": ...}
Lines out: one first, {"ready": true} or {"failed": text}; then for each {"fault": why it does not compile, or ""}
One that takes more processor time than SECONDS ends the process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import selectors
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from trireme.errors import TriremeError
from trireme.generate.openvino_vocabulary import open_vocabulary, read_tokens, structured_config
from trireme.generate.openvino_worker import OWNER_PERIOD_SECONDS, READ_BYTES, first_lines, is_orphan

# Of processor time. 1,000 letters one by one in a vocabulary of 49,152 took 8 s on two busy cores.
SECONDS = 10
_WIDTH = 32


class FormProbe:
    """A pipeline whose answers nobody reads."""

    def __init__(self, tokens: list[bytes]) -> None:
        import openvino
        import openvino_genai as genai

        self._openvino: Any = openvino
        self._genai: Any = genai
        self._vocabulary = open_vocabulary(tokens)
        self._folder = tempfile.TemporaryDirectory()
        openvino.save_model(_empty_graph(len(tokens)), Path(self._folder.name, "openvino_model.xml"))
        self._pipeline = self._open()

    def find_fault(self, form: dict[str, str]) -> str:
        """Why a form does not compile; "" where it does."""
        config = self._genai.GenerationConfig()
        config.max_new_tokens = 1
        config.eos_token_id = 0
        config.stop_token_ids = {0}
        prompt = self._openvino.Tensor(self._openvino.Type.i64, [1, 1])
        prompt.data[0] = 0
        try:
            config.structured_output_config = structured_config(self._genai, form)
            handle = self._pipeline.add_request(0, prompt, config)
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            handle.read()
        except Exception as error:
            # It has a request that fails each step now.
            self._pipeline = self._open()
            return _reason(error)
        return ""

    def _open(self) -> Any:
        scheduler = self._genai.SchedulerConfig()
        scheduler.num_kv_blocks = 4
        scheduler.max_num_seqs = 1
        return self._genai.ContinuousBatchingPipeline(self._folder.name, self._vocabulary, scheduler, "CPU")


def _reason(error: Exception) -> str:
    """The library's last words, without where in its own source they stand."""
    return first_lines(error).rpartition(".cc:")[2].partition(" ")[2] or first_lines(error)


def _empty_graph(size: int) -> Any:
    """A language model of one layer that gives `size` logits of 0."""
    import openvino
    from openvino.op.util import Variable, VariableInfo

    op: Any = openvino.opset15
    ids = _input("input_ids", [-1, -1], "i64")
    mask = _input("attention_mask", [-1, -1], "i64")
    positions = _input("position_ids", [-1, -1], "i64")
    beam = _input("beam_idx", [-1], "i32")
    zeros = np.zeros((_WIDTH, _WIDTH), np.float32)
    nowhere = op.convert(op.multiply(ids, _int(0)), "i32")
    states = op.gather(op.constant(zeros[:1]), nowhere, _int(0))
    batch = op.gather(op.shape_of(ids, "i64"), _ints(0), _int(0))
    sinks = []

    def project() -> Any:
        apart = op.reshape(op.matmul(states, op.constant(zeros), False, True), _ints(0, 0, 1, _WIDTH), True)
        return op.transpose(apart, _ints(0, 2, 1, 3))

    def with_past(name: str) -> Any:
        info = VariableInfo()
        info.variable_id = name
        info.data_type = openvino.Type.f32
        info.data_shape = openvino.PartialShape([-1, 1, -1, _WIDTH])
        variable = Variable(info)
        sizes = op.concat([batch, _ints(1), _ints(0), _ints(_WIDTH)], 0)
        past = op.read_value(op.broadcast(op.constant(np.float32(0)), sizes), variable)
        joined = op.concat([op.gather(past, beam, _int(0)), project()], 2)
        sinks.append(op.assign(joined, variable))
        return joined

    keys = with_past("past_key_values.0.keypresent.0.key")
    values = with_past("past_key_values.0.valuepresent.0.value")
    visible = op.convert(op.unsqueeze(mask, _ints(1, 2)), "f32")
    mixed = op.scaled_dot_product_attention(
        project(), keys, values, visible, op.constant(np.float32(_WIDTH**-0.5)), causal=False
    )
    joined = op.reshape(op.transpose(mixed, _ints(0, 2, 1, 3)), _ints(0, 0, _WIDTH), True)
    one = op.matmul(op.add(joined, states), op.constant(zeros[:1]), False, True)
    result = op.result(op.tile(one, _ints(1, 1, size)))
    result.output(0).set_names({"logits"})
    return openvino.Model([result], sinks, [ids, mask, positions, beam], "empty")


def _input(name: str, shape: list[int], element: str) -> Any:
    import openvino

    node = openvino.opset15.parameter(
        openvino.PartialShape(shape), getattr(openvino.Type, element), name=name
    )
    node.output(0).set_names({name})
    return node


def _int(value: int) -> Any:
    import openvino

    return openvino.opset15.constant(np.array(value, np.int64))


def _ints(*values: int) -> Any:
    import openvino

    return openvino.opset15.constant(np.array(values, np.int64))


def _limit_time() -> None:
    """So much more processor time, of all threads together, until the next call."""
    until = math.ceil(time.process_time()) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def serve(probe: FormProbe, commands: int, out: Any, owner_pid: int) -> None:
    """Answer what comes on the descriptor, until it or the owner ends."""
    os.set_blocking(commands, False)
    selector = selectors.DefaultSelector()
    selector.register(commands, selectors.EVENT_READ)
    buffer = b""
    while not is_orphan(owner_pid):
        if not selector.select(OWNER_PERIOD_SECONDS):
            continue
        data = os.read(commands, READ_BYTES)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            _limit_time()
            fault = probe.find_fault(json.loads(line))
            out.write(json.dumps({"fault": fault}).encode() + b"\n")
            out.flush()


def main() -> None:
    """A model's folder and the owner's process id as arguments; ends when standard input does."""
    # Libraries may print: only our lines go to the pipe.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        try:
            probe = FormProbe(read_tokens(Path(sys.argv[1])))
        except TriremeError as error:
            out.write(json.dumps({"failed": str(error)}).encode() + b"\n")
            return
        out.write(b'{"ready":true}\n')
        out.flush()
        with contextlib.suppress(OSError):
            serve(probe, sys.stdin.fileno(), out, int(sys.argv[2]))
    # Threads of the library must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
