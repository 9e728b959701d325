"""Files as their producers write them, read as `trireme ingest` reads them."""

import pytest

from trireme.documents.blocks import blocks
from trireme.documents.load import load


@pytest.fixture
def read(tmp_path):
    """read(name, data): the title, the metadata, and each paragraph with the headings above it."""

    def read(name: str, data: bytes):
        (tmp_path / name).write_bytes(data)
        (source,) = load(tmp_path / name)
        document = source.open()
        found = [(" > ".join(block.heading), block.text) for block in blocks(document.parts)]
        return document.title, dict(document.extra), found

    return read
