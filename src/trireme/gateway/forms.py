"""Forms of uploads: multipart/form-data, read as it comes, its file written to disk, all of it bounded."""

from __future__ import annotations

import asyncio
import logging
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from trireme.errors import DeadlineError, InvalidInputError, TooLargeError, UnavailableError
from trireme.gateway.bodies import Receive, receive_before
from trireme.gateway.file import Limits

MOST_PARTS = 16
MOST_HEADERS = 8
HEADER_BYTES = 4096
# Of one field that is no file; metadata is the longest.
FIELD_BYTES = 256 << 10
# A file system takes no longer names, and nobody reads them.
NAME_BYTES = 255
# Bytes that are held before they are written.
WRITE_BYTES = 1 << 20
MALFORMED = "the body is not valid multipart/form-data"


@dataclass(frozen=True, slots=True)
class FormFile:
    """The file of a form: the field it came under, its name and type as sent, and where it lies."""

    field: str
    name: str
    content_type: str
    path: Path
    size: int


@dataclass(slots=True)
class Form:
    """Fields by name, and the file."""

    fields: dict[str, str] = field(default_factory=dict)
    file: FormFile | None = None


async def read_form(receive: Receive, content_type: str, length: str, folder: Path, limits: Limits) -> Form:
    """The form in a body; its file is written into `folder` with mode 0600.

    content_type, length: the headers of the request. Raises InvalidInputError for what is no such form, is cut,
    names a field twice or has two files, TooLargeError past `limits.upload_bytes`, DeadlineError for a body that
    comes more slowly than `body_bytes` in `body_seconds`, UnavailableError where the disk is full, ClientGoneError.
    """
    if length.isdecimal() and int(length) > limits.upload_bytes:
        raise _too_large(limits)
    reader = _FormReader(content_type, folder)
    started = asyncio.get_running_loop().time()
    size = 0
    try:
        more = True
        while more:
            seconds = limits.body_seconds * (1 + size / limits.body_bytes)
            try:
                message = await receive_before(receive, started + seconds, limits)
            except DeadlineError:
                raise DeadlineError(
                    f"{size} bytes of the form arrived within {seconds:.0f} s; send it faster, or a smaller file"
                ) from None
            data, more = message.get("body", b""), message.get("more_body", False)
            size += len(data)
            if size > limits.upload_bytes:
                raise _too_large(limits)
            reader.feed(data)
            if reader.waiting >= WRITE_BYTES:
                await asyncio.to_thread(reader.write)
        await asyncio.to_thread(reader.write)
        return reader.finish()
    except OSError as error:
        raise UnavailableError(f"the gateway has no room for this upload: {error.strerror}") from None
    finally:
        reader.close()


def check_name(name: str) -> str:
    """`name`, if it is the name of a file and no path. Raises InvalidInputError."""
    if not name or len(name.encode()) > NAME_BYTES:
        raise InvalidInputError(f"the file's name must have 1 to {NAME_BYTES} bytes", "file")
    if "/" in name or "\\" in name or name in (".", ".."):
        raise InvalidInputError("the file's name must be a name, not a path", "file")
    if any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in name):
        raise InvalidInputError("the file's name holds a control character; rename the file", "file")
    return name


class _Part:
    """One part of the form while it comes in."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.name = ""
        self.value = bytearray()
        self.is_file = False


class _FormReader:
    """What the parser finds becomes a form. `write` may run in a thread, while `feed` does not."""

    def __init__(self, content_type: str, folder: Path) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        # It has a line for each byte that strangers send wrong; they are told themselves.
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise InvalidInputError("a file is sent as multipart/form-data", "content-type")
        if not options.get(b"boundary"):
            raise InvalidInputError("content-type has no boundary; let your HTTP client write it")
        self._options_of = parse_options_header
        self._folder = folder
        self._form = Form()
        self._part = _Part()
        self._parts = 0
        self._header = [b"", b""]
        self._file: BinaryIO | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self.waiting = 0
        self._is_whole = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._name_header,
                    "on_header_value": self._value_header,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._take,
                    "on_part_end": self._end,
                    "on_end": self._see_end,
                },
                max_header_count=MOST_HEADERS,
                max_header_size=HEADER_BYTES,
            )
        except ValueError:
            raise InvalidInputError(f"{MALFORMED}: its boundary is too long") from None

    def feed(self, data: bytes) -> None:
        """Parse more of the body. Raises InvalidInputError, TooLargeError, OSError."""
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(data)
        except FormParserError:
            raise InvalidInputError(MALFORMED) from None

    def write(self) -> None:
        """Write what waits of the file. Blocks; raises OSError."""
        chunks, self._chunks, self.waiting = self._chunks, [], 0
        if self._file is not None:
            self._file.write(b"".join(chunks))
            self._file.flush()

    def finish(self) -> Form:
        """The form, once the body has ended. Raises InvalidInputError where it was cut."""
        if not self._is_whole:
            raise InvalidInputError(f"{MALFORMED}: it ends before its last boundary")
        return self._form

    def close(self) -> None:
        """Close the file. A write that a thread is at ends first."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise TooLargeError(f"the form has more than {MOST_PARTS} fields; send fewer")
        self._part = _Part()

    def _name_header(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _value_header(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers[name.lower()] = value
        self._header = [b"", b""]

    def _open(self) -> None:
        headers = self._part.headers
        kind, options = self._options_of(headers.get(b"content-disposition"))
        if kind != b"form-data" or not options.get(b"name"):
            raise InvalidInputError(f"{MALFORMED}: a part has no content-disposition with a name")
        encoding = headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise InvalidInputError(
                "content-transfer-encoding of a part must be binary; send its bytes as they are"
            )
        name = self._part.name = _text(options[b"name"], "the name of a field")
        if name in self._form.fields or (self._form.file is not None and self._form.file.field == name):
            raise InvalidInputError(f"the field {name[:80]!r} is given twice; send it once", name[:80])
        if b"filename" in options:
            self._open_file(
                _text(options[b"filename"], "the name of the file"), headers.get(b"content-type", b"")
            )

    def _open_file(self, name: str, content_type: bytes) -> None:
        if self._form.file is not None:
            raise InvalidInputError("the form has two files; send one in each request", "file")
        path = self._folder / "upload"
        self._form.file = FormFile(
            self._part.name, check_name(name), content_type.decode("latin-1").strip().lower(), path, 0
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._part.is_file = True

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._chunks.append(data[start:end])
            self.waiting += end - start
            self._size += end - start
            return
        self._part.value += data[start:end]
        if len(self._part.value) > FIELD_BYTES:
            name = self._part.name[:80]
            raise TooLargeError(
                f"the field {name!r} has more than {FIELD_BYTES} bytes; send a file as a file"
            )

    def _end(self) -> None:
        file = self._form.file
        if self._part.is_file and file is not None:
            self._form.file = FormFile(file.field, file.name, file.content_type, file.path, self._size)
        else:
            self._form.fields[self._part.name] = _text(
                bytes(self._part.value), f"the field {self._part.name[:80]!r}"
            )

    def _see_end(self) -> None:
        self._is_whole = True


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{what} is not UTF-8") from None


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the form has more than {limits.upload_bytes} bytes; send a smaller file, or use: trireme ingest"
    )
