"""What becomes of a text that is longer than the model reads, in the words of each wire."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from trireme.errors import InvalidInputError
from trireme.types import OverLength

# A flag is text-embeddings-inference's and Jina's, a word Cohere's and NVIDIA's: which side may be cut.
Truncate = bool | Literal["NONE", "START", "END"]
# vLLM's for: as many tokens as the model reads.
ALL_THAT_IT_READS = -1


def read_over_length(
    over_length: OverLength | None, truncate: Truncate | None, truncate_prompt_tokens: int | None = None
) -> OverLength | None:
    """What a body asks for: by our own word, by `truncate` or by vLLM's number; None where it says nothing.

    Raises InvalidInputError that names the field, for what no model here does and for fields that contradict.
    """
    said: dict[str, OverLength] = {}
    if over_length is not None:
        said["over_length"] = over_length
    if truncate == "START":
        raise InvalidInputError(
            "truncate: models here lose the end of a text that is too long; send END, or NONE for an error",
            "truncate",
        )
    if truncate is not None:
        said["truncate"] = "truncate" if truncate in (True, "END") else "error"
    if truncate_prompt_tokens not in (None, ALL_THAT_IT_READS):
        raise InvalidInputError(
            f"truncate_prompt_tokens: texts are cut at what the model reads, which is {ALL_THAT_IT_READS}; send"
            " that, or leave it out",
            "truncate_prompt_tokens",
        )
    if truncate_prompt_tokens is not None:
        said["truncate_prompt_tokens"] = "truncate"
    if len(set(said.values())) > 1:
        first, second, *_ = said
        raise InvalidInputError(f"{first} and {second} contradict each other; send one of them", second)
    return next(iter(said.values()), None)


def check_pairs(over_length: OverLength | None, truncated: npt.NDArray[np.int32]) -> None:
    """Raises InvalidInputError where a document was cut and must not be: by a model that was not told so."""
    if over_length == "error" and truncated.any():
        place = int(np.flatnonzero(truncated)[0])
        raise InvalidInputError(
            f"query and documents[{place}] have {int(truncated[place])} tokens more than the model reads; send"
            " less, or let it cut them",
            "documents",
        )
