"""docs/uploads.md has figures of the code."""

from pathlib import Path

from trireme.documents.load import SUFFIXES
from trireme.gateway.file import Limits
from trireme.gateway.forms import FIELD_BYTES, MOST_PARTS
from trireme.gateway.uploads import UploadOptions
from trireme.gateway.wire.documents import FILE_FIELDS, MOST_TEXTS
from trireme.gateway.wire.openai_files import COLLECTION_HEADER, PURPOSES

TEXT = " ".join((Path(__file__).parents[2] / "docs" / "uploads.md").read_text().split())


def test_the_bounds_of_uploads_are_those_of_the_code():
    options = UploadOptions()
    assert options.readers == 2
    for said in (
        f"Two such processes run, each file has {options.reader.seconds:.0f} s and",
        f"and {options.reader.memory_bytes >> 30} GiB; a process is replaced after {options.reader_files} files",
        f"at most {options.tenant_uploads} files in hand at once, all together {options.uploads}; more",
        f"A form may have {Limits().upload_bytes >> 20} MiB (`upload_bytes`), {MOST_PARTS} fields,",
        f"{FIELD_BYTES >> 10} KiB in a field",
        f"up to {MOST_TEXTS} texts in one request",
        f"took more than {options.reader.seconds:.0f} s to read",
    ):
        assert said in TEXT


def test_fields_and_kinds_of_files_are_those_of_the_code():
    for field in FILE_FIELDS:
        assert f"| `{field}` |" in TEXT
    for suffix in (".txt", ".md", ".html", ".pdf", ".docx"):
        assert suffix in SUFFIXES
        assert suffix in TEXT
    assert f"purpose `{PURPOSES[0]}` or `{PURPOSES[1]}`" in TEXT
    assert COLLECTION_HEADER in TEXT
