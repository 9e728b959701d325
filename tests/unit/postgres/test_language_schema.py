"""Words read by the language of their passage, in the real PostgreSQL: who finds what, and what stays as it was."""

import json
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import psycopg
import pytest

from trireme.errors import NotFoundError
from trireme.ingest.documents import Indexed
from trireme.postgres.configurations import SNOWBALL, configuration_of
from trireme.postgres.language_schema import add_languages
from trireme.postgres.languages import PostgresLanguages
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.schema import MIGRATIONS, migrate
from trireme.postgres.store import PostgresStore
from trireme.retrieve.languages import CollectionLanguage
from trireme.retrieve.words import fold, without_accents
from trireme.storage import open_documents, open_queue
from trireme.types import Document, Embedder, Passage, StoreQuery

pytestmark = pytest.mark.e2e

EMBEDDER = Embedder("a" * 64, 4)
VECTOR = np.eye(4, dtype=np.float32)[0]
TEXTS = {
    "de": "Die Häuser der Stadt stehen am Hafen, für alle.",
    "fr": "Les élèves ont mangé des pommes rouges.",
    "en": "He died in the houses of the harbour.",
    "ru": "Вёсла лежат в сараях за причалом, see Oars.",
    "ar": "تُحفظ المجاديف في السقيفة خلف الرصيف.",
    "hi": "किताबें मेज पर रखी हैं",
    "zh": "港口夜间关闭，早上六点重新开放。",
    "pl": "Wiosła leżą w szopie, do portu a to",
}


@pytest.fixture(scope="module")
def store(server) -> Iterator[PostgresStore]:
    """Texts of eight languages in "mixed", and of one alone in a collection of its name."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE languages")
    with closing(PostgresStore(server.url.replace("/postgres?", "/languages?"), 2, 10**6, 40)) as opened:
        put(opened, "mixed", *TEXTS)
        for code in TEXTS:
            put(opened, code, code)
        yield opened


def put(store: PostgresStore, collection: str, *codes: str) -> None:
    passages = [Passage(code, TEXTS[code], json.dumps({"language": code})) for code in codes]
    store.put("t", collection, EMBEDDER, passages, np.tile(VECTOR, (len(passages), 1)))


def search(store: PostgresStore, collection: str, text: str) -> dict[str, float]:
    """The ids that the words of `text` find, with their coverage."""
    query = StoreQuery(VECTOR, EMBEDDER, 10, "t", collection, text=text, mode="text")
    return {hit.id: hit.coverage for hit in store.search(query)}


@pytest.mark.parametrize(
    ("code", "query"),
    [
        ("de", "Haus"),
        ("de", "das Haus in den Städten"),
        ("de", "hauser"),
        ("fr", "un élève mangeait une pomme"),
        ("fr", "eleves manger"),
        ("en", "when did he die"),
        ("ru", "весло в сарае"),
        ("ru", "an oar"),
        ("ar", "سقيفة"),
        ("hi", "किताब"),
        ("zh", "夜间"),
        ("pl", "wiosla"),
        ("pl", "do portu to"),
    ],
)
def test_a_word_is_found_in_its_other_forms_alone_and_among_other_languages(store, code, query):
    assert list(search(store, code, query)) == [code]
    # Words that a language leaves out are none that a passage lacks, however many languages are looked in.
    assert next(iter(search(store, "mixed", query))) == code
    assert search(store, "mixed", query)[code] > 0.4


def test_words_that_the_language_of_a_query_leaves_out_are_looked_for_in_no_other(store):
    # "die" is an article of German and a verb of English.
    assert search(store, "mixed", "die Häuser der Stadt") == {"de": 1.0}
    assert search(store, "mixed", "when did he die") == {"en": 1.0}


def test_what_several_languages_make_of_one_word_counts_as_one_word(store):
    # English reads "hauser" of it, German "haus".
    assert search(store, "mixed", "Häuser Stadt") == {"de": 1.0}


def test_a_collection_knows_how_many_passages_each_configuration_reads(server, store):
    def readings(collection: str) -> dict[str, int]:
        with psycopg.connect(server.url.replace("/postgres?", "/languages?")) as connection:
            statement = "SELECT readings FROM trireme.collections WHERE collection = %s"
            (found,) = connection.execute(statement, (collection,)).fetchone()
        return {name: count for name, count in found.items() if count}

    put(store, "counted", "de", "fr", "zh", "en")
    assert readings("counted") == {"german": 1, "french": 1, "english": 2}
    # The same id and text in another language, and a document less.
    store.put(
        "t", "counted", EMBEDDER, [Passage("de", TEXTS["de"], '{"language": "Polish"}')], VECTOR[np.newaxis]
    )
    assert readings("counted") == {"simple": 1, "french": 1, "english": 2}
    store.drop("t", "counted")


def test_every_configuration_is_one_of_the_servers(server, store):
    with psycopg.connect(server.url) as connection:
        known = {name for (name,) in connection.execute("SELECT cfgname FROM pg_ts_config")}
    assert {configuration_of(code) for code in SNOWBALL} <= known


def test_migrating_rewrites_no_passage_and_what_was_there_is_read_as_english(server, url):
    old = MIGRATIONS[: MIGRATIONS.index(add_languages)]
    rows = "SELECT ctid, xmin, id, tsv FROM trireme.passages"
    with closing(ConnectionPool(url, 1, lambda connection: migrate(connection, old))) as pool:
        pool.run(_write_as_before, 10)
        before = pool.run(lambda connection: connection.execute(rows).fetchall(), 10)
    with closing(PostgresStore(url, 1, 10**6, 40)) as store:
        assert search(store, "c", "house") == {"en": 1.0}
        assert search(store, "c", "Haus") == {}
        with psycopg.connect(url) as connection:
            assert connection.execute(rows).fetchall() == before
            statement = "SELECT language, readings FROM trireme.collections"
            assert connection.execute(statement).fetchone() == ("", {"english": 2})
        # Whatever its metadata says: nobody has said that the collection has languages.
        put(store, "c", "de", "fr")
        assert search(store, "c", "Haus") == {}
        assert search(store, "c", "Häuser")["de"] == 1.0


def _write_as_before(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO trireme.collections (tenant, collection, passages) VALUES ('t', 'c', 2)")
    connection.execute(
        "INSERT INTO trireme.indexes (collection_id, embedder, dimensions, state) VALUES (1, %s, 4, 'active')",
        (EMBEDDER.digest,),
    )
    for code in ("de", "en"):
        connection.execute(
            "WITH new AS (INSERT INTO trireme.passages (collection_id, tenant, id, text, metadata, tsv) "
            "VALUES (1, 't', %s, %s, '{}', to_tsvector('pg_catalog.english', %s)) RETURNING key) "
            "INSERT INTO trireme.embeddings (index_id, passage_key, tenant, embedding) "
            "SELECT 1, key, 't', '[1,0,0,0]' FROM new",
            (code, TEXTS[code], TEXTS[code]),
        )


def test_a_collection_is_read_anew_by_another_language_some_passages_at_a_time(server, store):
    with closing(PostgresLanguages(server.url.replace("/postgres?", "/languages?"))) as languages:
        assert languages.find("t", "set") is None
        languages.set("t", "set", "en")
        store.put(
            "t",
            "set",
            EMBEDDER,
            [
                Passage("de", TEXTS["de"]),
                Passage("fr", TEXTS["fr"], '{"page": 1}'),
                Passage("en", TEXTS["en"]),
            ],
            np.tile(VECTOR, (3, 1)),
        )
        assert search(store, "set", "Haus") == {}
        assert languages.find("t", "set") == CollectionLanguage("en", "en")

        languages.set("t", "set", "auto")
        told = {text: code for code, text in TEXTS.items()}
        first = languages.reread("t", "set", told.__getitem__, limit=2)
        assert (first.passages, first.written) == (2, 2)
        second = languages.reread("t", "set", told.__getitem__, first.last, limit=2)
        assert (second.passages, languages.reread("t", "set", told.__getitem__, second.last).passages) == (
            1,
            0,
        )
        assert search(store, "set", "Haus") == {"de": 1.0}
        assert list(search(store, "set", "manger")) == ["fr"]
        assert metadata(store, "fr") == {"page": 1, "language": "fr"}
        # Nothing is left to do.
        assert languages.reread("t", "set", told.__getitem__).written == 0

        with pytest.raises(NotFoundError):
            languages.reread("t", "none", str)
    store.drop("t", "set")


def test_of_long_passages_fewer_are_read_in_one_step(server, store, monkeypatch):
    monkeypatch.setattr("trireme.postgres.languages.STEP_CHARACTERS", len(TEXTS["de"]) * 2)
    found = [Passage(str(n), TEXTS["de"] * (3 if n == 2 else 1)) for n in range(4)]
    store.put("t", "set", EMBEDDER, found, np.tile(VECTOR, (4, 1)))
    steps, after = [], 0
    with closing(PostgresLanguages(server.url.replace("/postgres?", "/languages?"))) as languages:
        while (step := languages.reread("t", "set", lambda text: "de", after)).passages:
            steps.append((step.passages, step.written))
            after = step.last
    assert steps == [(2, 2), (1, 1), (1, 1)]
    store.drop("t", "set")


def test_what_a_document_says_of_its_language_stays_as_it_says_it(server, store):
    said = {"name": "German", "tag": "fr-FR", "list": ["de", "fr"], "other": "Klingon", "code": "de"}
    found = [
        Passage(id_, f"Die Häuser {id_}.", json.dumps({"language": value})) for id_, value in said.items()
    ]
    with closing(PostgresLanguages(server.url.replace("/postgres?", "/languages?"))) as languages:
        store.put("t", "set", EMBEDDER, found, np.tile(VECTOR, (len(found), 1)))
        # As they were read when they were put.
        assert languages.reread("t", "set", lambda text: "pl").written == 0
        languages.set("t", "set", "es")
        assert languages.reread("t", "set", lambda text: "pl").written == len(said)
    assert {id_: metadata(store, id_)["language"] for id_ in said} == {**said, "code": "es"}
    store.drop("t", "set")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{"language": "de"}'),
        (' {"n": 1.10,\n"n": 2e400} ', ' {"n": 1.10,\n"n": 2e400, "language": "de"}'),
        (r'{"x": "\ud800"}', r'{"x": "\ud800", "language": "de"}'),
        (
            '{"x": {"language": "en"}, "language":"en" ,"y": "}"}',
            '{"x": {"language": "en"}, "language": "de" ,"y": "}"}',
        ),
        (r'{"l\u0061nguage": "en"}', r'{"l\u0061nguage": "en"}'),
        ('{"language": null}', '{"language": null}'),
        ('["en"]', '["en"]'),
    ],
)
def test_metadata_gets_the_language_and_stays_letter_by_letter(server, store, before, after):
    with closing(PostgresLanguages(server.url.replace("/postgres?", "/languages?"))) as languages:
        languages.set("t", "set", "en")
        store.put("t", "set", EMBEDDER, [Passage("p", TEXTS["de"], before)], VECTOR[np.newaxis])
        languages.set("t", "set", "de")
        assert languages.reread("t", "set", str).written == 1
        assert languages.reread("t", "set", str).written == 0
    (hit,) = store.search(StoreQuery(VECTOR, EMBEDDER, 1, "t", "set"))
    assert hit.metadata == after
    assert search(store, "set", "Haus") == {"p": 1.0}
    store.drop("t", "set")


def test_staged_passages_are_read_by_the_language_that_was_set_meanwhile(server, store):
    url = server.url.replace("/postgres?", "/languages?")
    found = [
        Passage("0", TEXTS["de"], '{"language": "en"}'),
        Passage("1", TEXTS["de"] + " Ruder", '{"language": "en"}'),
    ]
    with (
        closing(open_queue(url, 15.0)) as queue,
        closing(open_documents(url, language="en")) as documents,
        closing(PostgresLanguages(url)) as languages,
    ):
        queue.publish("t", "set", [Document("d", "", ("text",), "d", digest="1")])
        (job,) = queue.take(1)
        documents.stage(job, 0, found, np.tile(VECTOR, (2, 1)), EMBEDDER)
        languages.set("t", "set", "de")
        assert documents.replace([Indexed(job, staged=2)], EMBEDDER, "m") == [job.id]
        assert languages.find("t", "set") == CollectionLanguage("de", "de")
    assert set(search(store, "set", "Haus")) == {"0", "1"}
    assert metadata(store, "0") == {"language": "en"}
    store.drop("t", "set")


def test_passages_staged_for_a_new_collection_are_read_by_the_language_that_it_will_have(server, store):
    url = server.url.replace("/postgres?", "/languages?")
    with closing(open_queue(url, 15.0)) as queue, closing(open_documents(url, language="de")) as documents:
        queue.publish("t", "set", [Document("d", "", ("text",), "d", digest="1")])
        (job,) = queue.take(1)
        documents.stage(job, 0, [Passage("0", TEXTS["de"])], VECTOR[np.newaxis], EMBEDDER)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT configuration FROM trireme.staged").fetchall() == [("german",)]
        documents.delete("t", "set", ["d"])


def test_a_collection_that_has_a_language_and_nothing_else_takes_no_new_version(server, store):
    with closing(PostgresLanguages(server.url.replace("/postgres?", "/languages?"))) as languages:
        languages.set("t", "set", "de")
    with pytest.raises(NotFoundError, match="no collection 'set'"):
        store.versions.begin("t", "set", EMBEDDER, "m")
    assert store.drop("t", "set") == 0


def test_a_configuration_that_the_server_has_not_stems_nothing(server, store):
    with psycopg.connect(server.url.replace("/postgres?", "/languages?")) as connection:
        read = "SELECT trireme.read_passage('klingon', 'häuser', ''), trireme.stemmer('german') IS NULL"
        assert connection.execute(read).fetchone() == ("'hauser':1", False)


def metadata(store: PostgresStore, text: str) -> dict[str, object]:
    query = StoreQuery(VECTOR, EMBEDDER, 10, "t", "set")
    return next(json.loads(hit.metadata) for hit in store.search(query) if hit.id == text)


def test_the_server_drops_what_passages_and_queries_drop_of_a_word(server, store):
    # Lower case of each letter that has an accent or is written without one, and words of each script.
    letters = [chr(code) for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00), *range(0x370, 0x400))]
    words = [f"a{letter}b" for letter in letters if letter.isalpha() and letter.casefold() == letter]
    words += [
        "ёлка",
        "семьи́",
        "йод",
        "שָלוֹם",
        "שָׁלוֹם",
        "كِتَابٌ",
        "آية",
        "فارسی",
        "οδυσσεύς",
        "straße",
        "ﻻ",
        "किताबें",
    ]
    words = [fold(word) for word in words]
    with psycopg.connect(server.url.replace("/postgres?", "/languages?")) as connection:
        statement = (
            "SELECT trireme.bare(word) FROM unnest(%s::text[]) WITH ORDINALITY AS w (word, n) ORDER BY n"
        )
        found = [bare for (bare,) in connection.execute(statement, (words,))]
    assert {
        word: bare for word, bare in zip(words, found, strict=True) if bare != without_accents(word)
    } == {}
