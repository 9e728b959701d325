"""The one error tree. Every message names what to change; `code` is the Triton error code a client sees."""

from __future__ import annotations

from typing import ClassVar, Literal

ErrorCode = Literal[
    "INVALID_ARG",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "TOO_LARGE",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CONFLICT",
    "CANCELLED",
    "INTERNAL",
]


class TriremeError(Exception):
    """Base of every error that Trireme raises on purpose."""

    code: ClassVar[ErrorCode] = "INTERNAL"
    # Stands behind the code where a program must tell this error from others of its code.
    reason: ClassVar[str] = ""


class InvalidInputError(TriremeError):
    """The request or argument is wrong; the sender must change it. `param` names the field, where there is one."""

    code: ClassVar[ErrorCode] = "INVALID_ARG"

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class PromptTooLongError(InvalidInputError):
    """The prompt leaves the model no room to answer; the message has both numbers. A shorter one may fit."""

    reason: ClassVar[str] = "PROMPT_TOO_LONG"


class OverLengthError(InvalidInputError):
    """A text is longer than the model reads, and may be neither cut nor split; the message has both numbers."""

    reason: ClassVar[str] = "OVER_LENGTH"


class SettingError(InvalidInputError):
    """A setting is unknown or malformed; the message names its key."""


class CalibrationMismatchError(SettingError):
    """A calibration was fitted on other versions of models than those that answer; the message names them."""


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


class UnauthenticatedError(TriremeError):
    """No key, or none that is in force."""

    code: ClassVar[ErrorCode] = "UNAUTHENTICATED"


class PermissionDeniedError(TriremeError):
    """The key is in force and may not do this; the message says what it may."""

    code: ClassVar[ErrorCode] = "PERMISSION_DENIED"


class TooLargeError(TriremeError):
    """The request's body is larger, deeper or has more items than is taken; the message has both numbers."""

    code: ClassVar[ErrorCode] = "TOO_LARGE"


class ResourceExhaustedError(TriremeError):
    """The share of a key is used up. `retry_after`: seconds until there is more, 0 if waiting does not help."""

    code: ClassVar[ErrorCode] = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetExceededError(ResourceExhaustedError):
    """A budget leaves too little for a request; the message says which one, and when it begins anew.

    level: gateway, tenant or user. window: minute, day or month. unit: tokens or nanos (billionths of a US dollar),
    in which cap, spent and held are. resets_at: milliseconds (Unix).
    """

    def __init__(
        self,
        message: str,
        retry_after: float,
        *,
        level: str,
        window: str,
        unit: str,
        cap: int,
        spent: int,
        held: int,
        resets_at: int,
    ) -> None:
        super().__init__(message, retry_after)
        self.level = level
        self.window = window
        self.unit = unit
        self.cap = cap
        self.spent = spent
        self.held = held
        self.resets_at = resets_at


class NotFoundError(TriremeError):
    """A collection, model or file that was named does not exist."""

    code: ClassVar[ErrorCode] = "NOT_FOUND"


class ConflictError(TriremeError):
    """What was named is in another state than the request needs; the message says in which."""

    code: ClassVar[ErrorCode] = "CONFLICT"


class UnavailableError(TriremeError):
    """A part that the request needs does not answer now; the same request may work later."""

    code: ClassVar[ErrorCode] = "UNAVAILABLE"


class OverloadedError(UnavailableError):
    """More is asked than is answered in time, and this request is not among those that are let in.

    `retry_after`: seconds until it may be.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(UnavailableError):
    """The answer did not come within the time that the request has."""

    code: ClassVar[ErrorCode] = "DEADLINE_EXCEEDED"


class UnsupportedError(TriremeError):
    """A checkpoint, format or option that Trireme does not handle, or refuses for safety."""

    code: ClassVar[ErrorCode] = "UNSUPPORTED"


class FollowerError(UnsupportedError):
    """The database follows another region's, where alone collections are written; the message names the region."""

    reason: ClassVar[str] = "FOLLOWER"


class ArtifactError(TriremeError):
    """A file of a built model is missing, corrupt, or not the one in the manifest."""


class GateError(TriremeError):
    """A built model is too far from its original; nothing was placed. The message holds the figures."""
