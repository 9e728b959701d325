"""The one error tree. Every message names what to change; `code` is the Triton error code a client sees."""

from __future__ import annotations

from typing import ClassVar, Literal

ErrorCode = Literal[
    "INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED", "INTERNAL"
]


class TriremeError(Exception):
    """Base of every error that Trireme raises on purpose."""

    code: ClassVar[ErrorCode] = "INTERNAL"
    # Stands behind the code where a program must tell this error from others of its code.
    reason: ClassVar[str] = ""


class InvalidInputError(TriremeError):
    """The request or argument is wrong; the sender must change it."""

    code: ClassVar[ErrorCode] = "INVALID_ARG"


class PromptTooLongError(InvalidInputError):
    """The prompt leaves the model no room to answer; the message has both numbers. A shorter one may fit."""

    reason: ClassVar[str] = "PROMPT_TOO_LONG"


class SettingError(InvalidInputError):
    """A setting is unknown or malformed; the message names its key."""


class DocumentError(InvalidInputError):
    """One document cannot be read or kept; the message says why, without its name. Others are not concerned."""


class EmbedderMismatchError(InvalidInputError):
    """Vectors in the store were made by another embedder than the one that is served.

    `digest` and `model` name the store's: the sha256 of its manifest, and its model folder where that is known.
    """

    def __init__(self, message: str, digest: str = "", model: str = "") -> None:
        super().__init__(message)
        self.digest = digest
        self.model = model


class NotFoundError(TriremeError):
    """A collection, model or file that was named does not exist."""

    code: ClassVar[ErrorCode] = "NOT_FOUND"


class UnavailableError(TriremeError):
    """A part that the request needs does not answer now; the same request may work later."""

    code: ClassVar[ErrorCode] = "UNAVAILABLE"


class UnsupportedError(TriremeError):
    """A checkpoint, format or option that Trireme does not handle, or refuses for safety."""

    code: ClassVar[ErrorCode] = "UNSUPPORTED"


class ArtifactError(TriremeError):
    """A file of a built model is missing, corrupt, or not the one in the manifest."""


class GateError(TriremeError):
    """A built model is too far from its original; nothing was placed. The message holds the figures."""
