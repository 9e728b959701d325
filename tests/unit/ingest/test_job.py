from pathlib import Path

import numpy as np
import pytest

from trireme.errors import InvalidInputError, UnavailableError
from trireme.ingest.job import IngestReport, ingest
from trireme.ingest.load import Skipped, load, open_all
from trireme.retrieve.memory import MemoryStore
from trireme.types import Document, Embedder, FloatArray, StoreQuery

EMBEDDER = Embedder("a" * 64, 4)


class FakeEmbed:
    """Counts its calls; fails on call number `fails_at`."""

    def __init__(self, fails_at: int = -1) -> None:
        self.sizes: list[int] = []
        self._fails_at = fails_at

    def __call__(self, texts: list[str]) -> FloatArray:
        if len(self.sizes) == self._fails_at:
            raise UnavailableError("the server does not answer")
        self.sizes.append(len(texts))
        return np.array([[len(text), text.count("a"), text.count("e"), 1.0] for text in texts], np.float32)


def documents(count: int) -> list[Document]:
    return [Document(f"{n}.txt", f"Title {n}", (f"Text of {n}.",), f"{n}.txt") for n in range(count)]


def stored(store: MemoryStore) -> dict[str, str]:
    query = StoreQuery(np.ones(4, np.float32), EMBEDDER, 1000, "t", "c")
    return {hit.id: hit.text for hit in store.search(query)}


def test_every_passage_is_embedded_in_batches_and_stored():
    store, embed, told = MemoryStore(), FakeEmbed(), []
    report = ingest(documents(10), embed, store, EMBEDDER, "t", "c", batch_size=4, progress=told.append)
    assert embed.sizes == told == [4, 4, 2]
    assert stored(store)["3.txt#0"] == "Title 3\nText of 3."
    assert (report.documents, report.passages, report.skipped) == (10, 10, ())
    assert report.seconds >= 0


def test_documents_are_read_no_further_than_the_batch_needs():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield Document(f"{read}.txt", "", ("text",), f"{read}.txt")

    with pytest.raises(UnavailableError):
        ingest(endless(), FakeEmbed(fails_at=3), MemoryStore(), EMBEDDER, "t", "c", batch_size=5)
    assert read == 20


def test_a_run_broken_off_keeps_what_it_stored_and_a_second_run_completes_it():
    store = MemoryStore()
    with pytest.raises(UnavailableError):
        ingest(documents(10), FakeEmbed(fails_at=2), store, EMBEDDER, "t", "c", batch_size=3)
    assert set(stored(store)) == {f"{n}.txt#0" for n in range(6)}
    ingest(documents(10), FakeEmbed(), store, EMBEDDER, "t", "c", batch_size=3)
    assert set(stored(store)) == {f"{n}.txt#0" for n in range(10)}


def test_a_changed_file_replaces_its_passages(tmp_path: Path):
    store = MemoryStore()
    for text in ("old", "new"):
        (tmp_path / "a.txt").write_text(text)
        ingest(open_all(load(tmp_path), Skipped()), FakeEmbed(), store, EMBEDDER, "t", "c")
    assert stored(store) == {"a.txt#0": "a\nnew"}


def test_the_report_names_what_was_skipped(tmp_path: Path):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    (tmp_path / "a.png").write_bytes(b"")
    skipped = Skipped()
    documents = open_all(load(tmp_path, skipped), skipped)
    report = ingest(documents, FakeEmbed(), MemoryStore(), EMBEDDER, "t", "c", skipped=skipped)
    assert report.skipped == ("bad.txt: it is not UTF-8 text (byte 0)", "1 of unknown type .png")


def test_nothing_to_ingest_is_no_error():
    assert ingest([], FakeEmbed(), MemoryStore(), EMBEDDER, "t", "c") == IngestReport(
        0, 0, (), pytest.approx(0, abs=5)
    )


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(InvalidInputError, match="batch_size"):
        ingest([], FakeEmbed(), MemoryStore(), EMBEDDER, "t", "c", batch_size=0)
