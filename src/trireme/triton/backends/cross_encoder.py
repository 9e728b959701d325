"""The `cross_encoder` backend: rerankers (`query`, `passages`) and classifiers (`text`)."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.artifacts.contracts import RERANK_DEPTH
from trireme.artifacts.encoder_engines import ENGINES
from trireme.artifacts.manifest import Manifest, read_manifest, verify_files
from trireme.artifacts.repository import version_dir
from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest
from trireme.encode.late_interaction import LateInteraction, LateSpec
from trireme.encode.pair_template import PairTemplate
from trireme.encode.session import NamedSession
from trireme.encode.text_encoder import TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import InvalidInputError, SettingError
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.health import EncoderHealth, UsageMeter
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.signals import WorkSource
from trireme.triton.backends.tensors import (
    float_tensor,
    read_over_length,
    read_strings,
    read_tensor,
    string_tensor,
)
from trireme.triton.backends.text_encoder import (
    HELD_BATCHES,
    load_text_encoder,
    measure,
    open_encoder_session,
)
from trireme.types import Classified, Scored, TokenRules


class CrossEncoderModel(BackendModel):
    """A model whose configuration has the input `text` classifies; otherwise it ranks passages, read with the query
    or, of a late_interaction, apart from it."""

    known_parameters = frozenset((*PARAMETERS["cross_encoder"], *PARAMETERS["late_interaction"]))

    def load(self, config: ModelConfig) -> None:
        manifest = read_manifest(config.version_dir)
        verify_files(config.version_dir, manifest)
        tokenizer = Tokenizer.load(config.version_dir / "tokenizer.json", manifest.max_length)
        session = open_encoder_session(config, config.version_dir, manifest, warms_up=config.warms_up)
        budget = config.read_int("max_batch_tokens")
        classifies = "text" in config.inputs
        spec = RankerSpec(
            max_batch_tokens=budget,
            max_text_bytes=config.read_int("max_text_bytes"),
            max_passages=0 if classifies else config.read_int("max_passages"),
            rerank_depth=0 if classifies else config.read_int("rerank_depth"),
            labels=tuple(manifest.labels),
            activation=manifest.activation,
            needs_prior=manifest.needs_prior,
            template=PairTemplate.parse(manifest.template) if manifest.template else None,
            over_length=config.read_over_length(),
            max_attention=config.read_attention(),
        )
        self._encoder: CrossEncoder
        if manifest.kind == "late_interaction":
            late = LateSpec(
                spec,
                manifest.token_rules or TokenRules(),
                manifest.query_prompt,
                manifest.passage_prompt,
                config.read_int("passage_cache_bytes"),
            )
            self._encoder = LateInteraction(tokenizer, cast("NamedSession", session), late)
        else:
            self._encoder = CrossEncoder(tokenizer, session, spec, self._load_prior(config, manifest, budget))
        if config.warms_up:
            measure(config, self._encoder.queue, session, manifest)
        self._health = EncoderHealth(config.version_dir, manifest.files, session, tokenizer)
        self._usage = UsageMeter(self.metrics, self._encoder.queue.take_cost)
        self._room = HELD_BATCHES * budget
        self._classifies = classifies

    def _load_prior(self, config: ModelConfig, manifest: Manifest, budget: int) -> TextEncoder | None:
        """What makes the cosines that a reranker adjusts, where it needs them."""
        if not manifest.needs_prior:
            return None
        embedder = version_dir(config.repository, config.read_text("embedder"))
        engine = ENGINES.get(read_manifest(embedder).engine)
        if engine is not None and engine.compares_at_start:
            # It would start another process on the card, with memory of its own, for the few that send no prior.
            raise SettingError(
                f"embedder {embedder.parent.name} is of engine {engine.name}, which runs in its own model alone;"
                " name one of another engine"
            )
        # Runs only for requests without a prior: its kernels wait for the first of them.
        return load_text_encoder(config, embedder, budget, warms_up=False)[0]

    def is_ready(self) -> bool:
        self._usage.flush()
        return self._health.is_ready()

    def close(self) -> None:
        self._encoder.close()

    def execute(self, requests: list[Any]) -> None:
        """Returns before the responses are sent, once few enough rows wait."""
        work = self._encoder.queue.work
        with self.front.executing():
            for reply in self.replies.owed(requests):
                with reply:
                    if self._classifies:
                        texts = [row[0] for row in read_strings(self.pb, reply.request, "text")]
                        labels = self._encoder.classify(texts, read_over_length(self.pb, reply.request))
                        work.offer(labels.tokens)
                        reply.when(labels, self._write_labels)
                    else:
                        scores = self._encoder.rank(self._read_pairs(reply.request))
                        work.offer(scores.tokens)
                        reply.when(scores, self._write_scores)
            self._encoder.queue.wait_for_room(self._room)

    def work_source(self) -> WorkSource:
        """See BackendModel. The unit is a token."""
        queue = self._encoder.queue
        return WorkSource(queue.work.totals, queue.rate, queue.standing, lambda: queue.is_busy)

    def on_answered(self, seconds: float) -> None:
        """See BackendModel."""
        self._usage.add_request(seconds)

    def _read_pairs(self, request: Any) -> list[RankRequest]:
        queries = [row[0] for row in read_strings(self.pb, request, "query")]
        passages = read_strings(self.pb, request, "passages")
        columns = {name: read_tensor(self.pb, request, name) for name in ("prior", "rank_score")}
        for name, values in columns.items():
            if values is not None and values.shape != (len(passages), len(passages[0])):
                raise InvalidInputError(f"{name} has shape {list(values.shape)}; send one number per passage")
        depths = read_tensor(self.pb, request, RERANK_DEPTH)
        policy = read_over_length(self.pb, request)
        return [
            RankRequest(
                query,
                row,
                depth=None if depths is None else int(depths[i].reshape(-1)[0]),
                over_length=policy,
                **{name: values[i] for name, values in columns.items() if values is not None},
            )
            for i, (query, row) in enumerate(zip(queries, passages, strict=True))
        ]

    def _write_scores(self, answer: list[Scored]) -> list[Any]:
        cut = np.stack([row.truncated_tokens for row in answer])
        scores = float_tensor(self.pb, "score", [row.score for row in answer])
        return [scores, self.pb.Tensor("truncated_tokens", cut)]

    def _write_labels(self, answer: list[Classified]) -> list[Any]:
        return [
            string_tensor(self.pb, "label", [row.labels for row in answer]),
            float_tensor(self.pb, "score", [row.score for row in answer]),
        ]
