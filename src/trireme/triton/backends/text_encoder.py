"""The `text_encoder` backend: `text` in, `embedding` and the other outputs of a model out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from trireme.artifacts.config_writer import GPU_MEMORY, PARAMETERS
from trireme.artifacts.contracts import DENSE, ENCODER_OUTPUTS
from trireme.artifacts.manifest import Manifest, read_manifest, verify_files
from trireme.encode.calibrate import calibrate
from trireme.encode.engines.table import open_session
from trireme.encode.row_queue import RowQueue
from trireme.encode.runner import warm_up
from trireme.encode.session import Session, SessionOptions
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import ArtifactError, InvalidInputError
from trireme.observe import metrics as names
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.health import EncoderHealth, UsageMeter
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.signals import WorkSource
from trireme.triton.backends.tensors import (
    float_tensor,
    is_bulk,
    pad_vectors,
    pad_weights,
    read_over_length,
    read_strings,
    read_tensor,
)
from trireme.types import Embedding, EncoderOutput, InputType, TokenRules

INPUT_TYPES = ("query", "passage")
# Micro-batches' worth of tokens that wait here: enough to choose from.
HELD_BATCHES = 4


def load_text_encoder(
    config: ModelConfig, version_dir: Path, max_batch_tokens: int, *, warms_up: bool
) -> tuple[TextEncoder, EncoderHealth]:
    """A checked encoder from a version folder. Raises ArtifactError for missing or altered files."""
    manifest = read_manifest(version_dir)
    verify_files(version_dir, manifest)
    tokenizer = Tokenizer.load(version_dir / "tokenizer.json", manifest.max_length)
    session = open_encoder_session(config, version_dir, manifest, warms_up=warms_up)
    spec = EncoderSpec(
        dimensions=manifest.dimensions,
        normalize=manifest.normalize,
        query_prompt=manifest.query_prompt,
        passage_prompt=manifest.passage_prompt,
        max_batch_tokens=max_batch_tokens,
        max_text_bytes=config.read_int("max_text_bytes"),
        over_length=config.read_over_length(),
        max_attention=config.read_attention(),
        outputs=read_outputs(manifest),
        rules=manifest.token_rules or TokenRules(),
    )
    encoder = TextEncoder(tokenizer, session, spec)
    if warms_up:
        measure(config, encoder.queue, session, manifest)
    return encoder, EncoderHealth(version_dir, manifest.files, session, tokenizer)


def read_outputs(manifest: Manifest) -> tuple[EncoderOutput, ...]:
    """What the built files make of a text."""
    return cast("tuple[EncoderOutput, ...]", manifest.outputs or (DENSE,))


def measure(config: ModelConfig, queue: RowQueue, session: Session, manifest: Manifest) -> None:
    """The rate before the first request: see calibrate. Blocks."""
    options = _session_options(config, manifest)
    calibrate(
        queue,
        streams=session.streams,
        max_length=manifest.max_length,
        max_batch_tokens=config.read_int("max_batch_tokens"),
        cores=(options.threads or options.cores) if options.device_id is None else 0,
    )


def _session_options(config: ModelConfig, manifest: Manifest) -> SessionOptions:
    options = SessionOptions(
        config.read_int("threads"), config.device_id, manifest.max_length, config.instances
    )
    if GPU_MEMORY not in config.parameters:
        return options
    return replace(options, gpu_memory_utilization=config.read_number(GPU_MEMORY))


def open_encoder_session(
    config: ModelConfig, version_dir: Path, manifest: Manifest, *, warms_up: bool
) -> Session:
    """The session of a version folder with the model's settings. Raises SettingError, ArtifactError."""
    session = open_session(manifest.engine, version_dir, _session_options(config, manifest))
    if warms_up:
        warm_up(session, manifest.max_length)
    return session


class TextEncoderModel(BackendModel):
    """Texts of all requests wait in one queue: what runs together is not bound to what Triton batched."""

    known_parameters = frozenset(PARAMETERS["text_encoder"])

    def load(self, config: ModelConfig) -> None:
        budget = config.read_int("max_batch_tokens")
        self._encoder, self._health = load_text_encoder(
            config, config.version_dir, budget, warms_up=config.warms_up
        )
        self._served = self._serve_outputs(config)
        self._default_input_type = _input_type(config.read_text("default_input_type"))
        # What a worker looks at before it sends more.
        self._interactive = self.metrics.make(names.INTERACTIVE)
        self._usage = UsageMeter(self.metrics, self._encoder.queue.take_cost)
        self._room = HELD_BATCHES * budget

    def is_ready(self) -> bool:
        self._usage.flush()
        return self._health.is_ready()

    def close(self) -> None:
        self._encoder.close()

    def execute(self, requests: list[Any]) -> None:
        """Returns before the responses are sent, once few enough texts wait."""
        interactive = sum(not is_bulk(request) for request in requests)
        with self.front.executing():
            for reply in self.replies.owed(requests):
                with reply:
                    pending = self._encoder.submit(self._read(reply.request))
                    self._encoder.queue.work.offer(pending.tokens, is_bulk=is_bulk(reply.request))
                    reply.when(pending, self._write)
            if interactive:
                # A call to the server, for which no request need wait.
                self._interactive.increment(interactive)
            # The rest waits in Triton's queue, which knows priorities, time-outs and clients that have gone away.
            self._encoder.queue.wait_for_room(self._room)

    def work_source(self) -> WorkSource:
        """See BackendModel. The unit is a token."""
        queue = self._encoder.queue
        return WorkSource(queue.work.totals, queue.rate, queue.standing, lambda: queue.is_busy)

    def on_answered(self, seconds: float) -> None:
        """See BackendModel."""
        self._usage.add_request(seconds)

    def _read(self, request: Any) -> EmbedRequest:
        texts = [row[0] for row in read_strings(self.pb, request, "text")]
        types = [self._default_input_type] * len(texts)
        if read_tensor(self.pb, request, "input_type") is not None:
            types = [_input_type(row[0]) for row in read_strings(self.pb, request, "input_type")]
        wanted = read_tensor(self.pb, request, "dimensions")
        sizes = set() if wanted is None else set(wanted.reshape(-1).tolist())
        if len(sizes) > 1:
            raise InvalidInputError("dimensions differ within one request; send one request per size")
        policy = read_over_length(self.pb, request)
        return EmbedRequest(texts, types, sizes.pop() if sizes else None, policy, self._asked(request))

    def _serve_outputs(self, config: ModelConfig) -> tuple[EncoderOutput, ...]:
        """The outputs that the configuration has. Raises ArtifactError for one that the built files do not make."""
        made = self._encoder.spec.outputs
        for name, tensors in ENCODER_OUTPUTS.items():
            if name not in made and tensors[0].name in config.outputs:
                raise ArtifactError(
                    f"config.pbtxt of {config.name} has {tensors[0].name}, its files make none; build it again"
                )
        return tuple(name for name in made if ENCODER_OUTPUTS[name][0].name in config.outputs) or made

    def _asked(self, request: Any) -> frozenset[EncoderOutput]:
        """The outputs of which the request wants a tensor. Of models with one output that one."""
        wanted = getattr(request, "requested_output_names", None)
        if len(self._served) == 1 or wanted is None:
            return frozenset(self._served)
        names = set(wanted())
        asked = [name for name in self._served if names & {tensor.name for tensor in ENCODER_OUTPUTS[name]}]
        # Of somebody who asks for counts alone the cheapest is made.
        return frozenset(asked or self._served[:1])

    def _write(self, answer: list[Embedding]) -> list[Any]:
        counts = np.array([[row.token_count] for row in answer], np.int32)
        cut = np.array([[row.truncated_tokens] for row in answer], np.int32)
        tensors = [self.pb.Tensor("token_count", counts), self.pb.Tensor("truncated_tokens", cut)]
        if DENSE in self._served and all(len(row.vector) for row in answer):
            tensors.insert(0, float_tensor(self.pb, "embedding", [row.vector for row in answer]))
        sparse = [row.sparse for row in answer if row.sparse is not None]
        vectors = [row.token_vectors for row in answer if row.token_vectors is not None]
        if sparse:
            tensors += [self.pb.Tensor(*one) for one in pad_weights(sparse).items()]
        if vectors:
            tensors += [self.pb.Tensor(*one) for one in pad_vectors(vectors).items()]
        return tensors


def _input_type(text: str) -> InputType:
    if text not in INPUT_TYPES:
        raise InvalidInputError(f"input_type must be one of {', '.join(INPUT_TYPES)}, got {text[:40]!r}")
    return cast("InputType", text)
