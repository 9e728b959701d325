"""What runs in child processes of tests: importable by name, as spawned processes need it."""

import json
import os
import time
from pathlib import Path


def answer(connection, greeting):
    """Answers each task with its text, and the process's number; some texts are poison."""
    from trireme.gateway.readers import take_task

    while True:
        try:
            task = take_task(connection).decode()
        except EOFError:
            return
        if task == "die":
            os._exit(9)
        if task == "hang":
            while True:
                time.sleep(1)
        if task == "spin":
            while True:
                pass
        if task == "flood":
            connection.send_bytes(b"x" * (4 << 20))
        connection.send_bytes(f"{greeting} {task} {os.getpid()}".encode())


def open_noting(notes):
    """A queue that writes what is published into the file `notes`."""
    return NotingQueue(Path(notes))


class NotingQueue:
    """publish only: a line of JSON for each document. Titles that are poison act on the process."""

    def __init__(self, notes):
        self._notes = notes

    def publish(self, tenant, collection, documents, batch="", origin=None):
        from trireme.errors import DocumentError, UnavailableError
        from trireme.ingest.queue import Published, check_document

        (document,) = documents
        if document.title == "die":
            os._exit(9)
        if document.title == "spin":
            while True:
                pass
        if document.title == "greedy":
            held = [bytearray(1 << 24) for _ in range(1 << 10)]
            raise AssertionError(f"nobody stopped it at {len(held)}")
        if document.title == "fault":
            raise RuntimeError("canary-9c1: a piece of the document")
        if document.title == "away":
            raise UnavailableError("the queue is away")
        try:
            check_document(document, set())
            text = document.text
        except DocumentError as error:
            return [Published(document.id, error=str(error))]
        line = {
            "tenant": tenant,
            "collection": collection,
            "id": document.id,
            "title": document.title,
            "source": document.source,
            "extra": dict(document.extra),
            "digest": document.digest,
            "text": text,
            "batch": batch,
            "request": origin.request if origin else "",
            "parent": origin.parent if origin else "",
        }
        with self._notes.open("a") as notes:
            notes.write(json.dumps(line) + "\n")
        return [Published(document.id, str(len(self._notes.read_text().splitlines())))]
