"""The `text_encoder` backend: `text` in, `embedding` out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.artifacts.manifest import Manifest, read_manifest, verify_files
from trireme.encode.calibrate import calibrate
from trireme.encode.engines.table import open_session
from trireme.encode.row_queue import RowQueue
from trireme.encode.runner import warm_up
from trireme.encode.session import Session, SessionOptions
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import InvalidInputError
from trireme.observe import metrics as names
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.health import EncoderHealth, UsageMeter
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.signals import WorkSource
from trireme.triton.backends.tensors import (
    float_tensor,
    is_bulk,
    read_over_length,
    read_strings,
    read_tensor,
)
from trireme.types import Embedding, InputType

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
    )
    encoder = TextEncoder(tokenizer, session, spec)
    if warms_up:
        measure(config, encoder.queue, session, manifest)
    return encoder, EncoderHealth(version_dir, manifest.files, session, tokenizer)


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
    return SessionOptions(config.read_int("threads"), config.device_id, manifest.max_length, config.instances)


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
        self._default_input_type = _input_type(config.read_text("default_input_type"))
        # What a worker looks at before it sends more.
        self._interactive = self.metrics.make(names.INTERACTIVE)
        self._usage = UsageMeter(self.metrics, self._encoder.queue.take_cost)
        self._room = HELD_BATCHES * budget

    def is_ready(self) -> bool:
        self._usage.flush()
        return self._health.is_ready()

    def close(self) -> None:
        self._encoder.queue.close()

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
        return EmbedRequest(texts, types, sizes.pop() if sizes else None, policy)

    def _write(self, answer: list[Embedding]) -> list[Any]:
        counts = np.array([[row.token_count] for row in answer], np.int32)
        cut = np.array([[row.truncated_tokens] for row in answer], np.int32)
        return [
            float_tensor(self.pb, "embedding", [row.vector for row in answer]),
            self.pb.Tensor("token_count", counts),
            self.pb.Tensor("truncated_tokens", cut),
        ]


def _input_type(text: str) -> InputType:
    if text not in INPUT_TYPES:
        raise InvalidInputError(f"input_type must be one of {', '.join(INPUT_TYPES)}, got {text[:40]!r}")
    return cast("InputType", text)
