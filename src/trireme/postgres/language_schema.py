"""What reads words by their language: a collection's language, each passage's configuration, the functions.

A word is stemmed with its accents, which suffixes have, and what people leave out is dropped from the stem: so it
is found however it is typed. PostgreSQL's parser is not asked: what a word is, retrieve/words.py has said.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from psycopg import Connection

from trireme.postgres.configurations import ENGLISH_LATIN
from trireme.postgres.functions import FUNCTIONS
from trireme.retrieve.scripts import LETTERS_ALIKE
from trireme.retrieve.words import MOST_REPEATS, without_accents

# A collection that was there has no language: its words are read as English, as they were, until somebody says one.
TABLES = """
    -- As in lexeme_schema.py.
    LOCK TABLE trireme.collections, trireme.passages IN ACCESS EXCLUSIVE MODE;

    ALTER TABLE trireme.collections
        ADD COLUMN language text COLLATE "C" NOT NULL DEFAULT '',
        -- How many passages are read by each configuration.
        ADD COLUMN readings jsonb NOT NULL DEFAULT '{}';
    ALTER TABLE trireme.collections ALTER COLUMN language SET DEFAULT 'auto';
    ALTER TABLE trireme.passages ADD COLUMN configuration text COLLATE "C" NOT NULL DEFAULT 'english';
    ALTER TABLE trireme.staged ADD COLUMN configuration text COLLATE "C" NOT NULL DEFAULT 'english';
    UPDATE trireme.collections SET readings = jsonb_build_object('english', passages) WHERE passages > 0;

    CREATE FUNCTION trireme.count_reading(of_collection bigint, configuration text, change bigint)
        RETURNS void LANGUAGE sql AS $$
        UPDATE trireme.collections SET readings = readings || jsonb_build_object(
            configuration, coalesce((readings ->> configuration)::bigint, 0) + change) WHERE id = of_collection $$;
    CREATE OR REPLACE FUNCTION trireme.count_written() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.count_change(collection_id, count(*), sum(words), 1)
                FROM written GROUP BY collection_id;
            PERFORM trireme.count_reading(collection_id, configuration, count(*))
                FROM written GROUP BY collection_id, configuration;
            RETURN NULL;
        END $$;
    CREATE OR REPLACE FUNCTION trireme.count_removed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.count_change(collection_id, count(*), sum(words), -1)
                FROM removed GROUP BY collection_id;
            PERFORM trireme.count_reading(collection_id, configuration, -count(*))
                FROM removed GROUP BY collection_id, configuration;
            RETURN NULL;
        END $$;
    -- As in lexeme_schema.py; what is read by another configuration has changed, however many words it has now.
    CREATE OR REPLACE FUNCTION trireme.count_reread() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.count_change(collection_id, count(*), sum(change)::bigint, 1) FROM (
                SELECT collection_id, sum(n) AS change FROM (
                    SELECT collection_id, key, configuration, words AS n FROM written
                    UNION ALL SELECT collection_id, key, configuration, -words FROM removed) AS both_of
                GROUP BY collection_id, key HAVING sum(n) <> 0 OR min(configuration) <> max(configuration)
                ) AS changed GROUP BY collection_id;
            PERFORM trireme.count_reading(collection_id, configuration, sum(n)::bigint) FROM (
                SELECT collection_id, configuration, 1 AS n FROM written
                UNION ALL SELECT collection_id, configuration, -1 FROM removed) AS both_of
                GROUP BY collection_id, configuration HAVING sum(n) <> 0;
            RETURN NULL;
        END $$;
    """

# Precomposed letters of Latin, Greek, Cyrillic, Hebrew and Arabic, and marks that are dropped wherever they stand.
_LETTERS = (*range(0xC0, 0x530), *range(0x5D0, 0x6FF), *range(0x1E00, 0x2000))
_MARKS = (
    *range(0x300, 0x370),
    *range(0x591, 0x5C8),
    0x640,
    *range(0x64B, 0x653),
    0x670,
    *range(0x20D0, 0x2100),
)


def _bare_letters() -> tuple[str, str]:
    """Letters with what people leave out, and the same without it, for translate()."""
    marks = "".join(chr(code) for code in _MARKS if unicodedata.category(chr(code)) in {"Mn", "Me", "Lm"})
    pairs = [(chr(code), without_accents(chr(code))) for code in _LETTERS if chr(code) not in marks]
    changed = [(letter, bare) for letter, bare in pairs if bare != letter and len(bare) == 1]
    return "".join(letter for letter, _ in changed) + marks, "".join(bare for _, bare in changed)


def _read_functions() -> str:
    letters, bare = _bare_letters()
    spelled_out = "word"
    for letter, plain in LETTERS_ALIKE.items():
        if len(plain) > 1:
            spelled_out = f"replace({spelled_out}, '{letter}', '{plain}')"
    places = ", ".join(f"'{','.join(map(str, range(1, n + 1)))}'" for n in range(1, MOST_REPEATS + 1))
    english_latin = ", ".join(f"'{one}'" for one in sorted(ENGLISH_LATIN))
    return f"""
    CREATE OR REPLACE FUNCTION trireme.bare(word text) RETURNS text
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT pg_catalog.translate(pg_catalog.{spelled_out.replace("(replace", "(pg_catalog.replace")},
            '{letters}', '{bare}') $$;

    -- A word as the index has it; NULL for one that a configuration leaves out.
    CREATE OR REPLACE FUNCTION trireme.read_word(configuration text, word text) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
        SELECT CASE
            WHEN configuration = 'simple' OR word ~ '[0-9]' THEN trireme.bare(word)
            WHEN configuration = 'english' AND trireme.bare(word) ~ '[^a-z]' THEN trireme.bare(word)
            WHEN configuration = 'english' OR configuration IN ({english_latin}) AND word !~ '[^a-z]'
                THEN (ts_lexize('english_stem', trireme.bare(word)))[1]
            ELSE trireme.bare((ts_lexize((configuration || '_stem')::regdictionary, word))[1]) END $$;

    -- The words of a passage: those that retrieve/words.py takes for plain are read as English, others as spelled.
    -- What a configuration leaves out is no compound for its accents either.
    CREATE OR REPLACE FUNCTION trireme.read_passage(configuration text, words text, exact tsvector) RETURNS tsvector
        LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF configuration = 'english' THEN
                RETURN to_tsvector('pg_catalog.english', words) || exact;
            END IF;
            RETURN (
                WITH read AS (
                    SELECT word, trireme.read_word(configuration, word) AS lexeme, n
                    FROM (SELECT word, count(*) AS n FROM string_to_table(words, ' ') AS word
                        WHERE word <> '' GROUP BY word) AS counted
                ), stems AS (
                    SELECT lexeme, least(sum(n), {MOST_REPEATS})::integer AS n FROM read
                    WHERE lexeme IS NOT NULL GROUP BY lexeme)
                SELECT coalesce(string_agg('''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || ''':'
                    || (ARRAY[{places}])[n], ' '), '')::tsvector
                    || ts_delete(exact, ARRAY(SELECT word FROM read WHERE lexeme IS NULL)) FROM stems);
        END $$;

    -- A query's words as each configuration reads them: `word` tells which are of one. It is too short for its
    -- language to be told, but the one that leaves out most of its words is most likely the one that it is in:
    -- the words that this one leaves out are no words to the others either.
    CREATE OR REPLACE FUNCTION trireme.read_query(
        configurations text[], spelled text[], plain_compounds text, compounds text[])
        RETURNS TABLE (word text, lexeme text, is_word boolean)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
        WITH words AS (
            SELECT DISTINCT one AS word, true AS is_word FROM unnest(spelled) AS one
            UNION ALL SELECT DISTINCT one, false FROM string_to_table(plain_compounds, ' ') AS one WHERE one <> ''
        ), read AS MATERIALIZED (
            SELECT w.word, w.is_word, c.configuration, trireme.read_word(c.configuration, w.word) AS lexeme
            FROM words w, unnest(configurations) AS c (configuration)
        ), stops AS (
            SELECT configuration, count(*) AS n FROM read WHERE is_word AND lexeme IS NULL GROUP BY configuration
        ), dropped AS (
            SELECT word FROM read JOIN stops USING (configuration)
            WHERE is_word AND lexeme IS NULL AND n = (SELECT max(n) FROM stops)
        )
        SELECT DISTINCT word, lexeme, is_word FROM read
        WHERE lexeme IS NOT NULL AND NOT (is_word AND word IN (SELECT dropped.word FROM dropped))
        UNION ALL SELECT one, one, false FROM unnest(compounds) AS one WHERE one NOT IN (TABLE dropped) $$;
    """  # noqa: S608 - of letters and names above


def add_languages(connection: Connection[Any]) -> None:
    """The columns and functions. Rewrites no passage."""
    connection.execute((TABLES + _read_functions() + FUNCTIONS).encode())
