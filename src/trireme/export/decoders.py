"""Language models as encoders: their masks of attention, and the head that reads a row's last token.

B is the batch, L the tokens of a row, H the hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MaskedEncoder(nn.Module):
    """An encoder that is given masks by kind of layer, as Gemma 3 is: torch.onnx cannot trace its own."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config

    def get_input_embeddings(self) -> Any:
        """The table of words."""
        return self.encoder.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """The encoder's output object."""
        return self.encoder(input_ids=input_ids, attention_mask=make_masks(self.config, attention_mask))


class LastTokenScorer(nn.Module):
    """A language model with a linear head over each row's last token: [B, L] ids -> logits [B, n], or scores [B].

    padding: a token that is none to transformers' sequence classifiers, wherever it stands. softcap: of the logits.
    """

    def __init__(
        self,
        encoder: Any,
        head: nn.Linear,
        is_reranker: bool,
        *,
        padding: int | None = None,
        softcap: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.padding = padding
        self.is_reranker = is_reranker
        self.softcap = softcap

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, n] or scores [B]."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        counts = attention_mask
        if self.padding is not None:
            counts = counts * (input_ids != self.padding).to(counts.dtype)
        last = (torch.arange(input_ids.shape[1], device=input_ids.device) * counts).amax(1)
        logits: Tensor = self.head(hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0])
        if self.softcap:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return to_score(logits) if self.is_reranker else logits


def to_score(logits: Tensor) -> Tensor:
    """[B, n] -> [B]: one label's logit; of two labels the second's, the relevant one's, less the first's."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def make_masks(config: Any, mask: Tensor) -> dict[str, Tensor]:
    """What is added to the logits of attention by kind of layer, [B, 1, L, L]: 0, or float32's least number.

    mask: [B, L], 1 for a token.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    distance = place[:, None] - place[None, :]
    is_seen = distance >= 0
    if config.use_bidirectional_attention:
        is_seen = torch.ones_like(is_seen)
    is_near = is_seen & (distance.abs() < config.sliding_window)
    token = mask.to(torch.bool)[:, None, None, :]
    least = torch.finfo(torch.float32).min
    return {
        name: torch.where(allowed & token, 0.0, least)
        for name, allowed in (("full_attention", is_seen), ("sliding_attention", is_near))
    }
