"""What reads words by their language: a collection's language, each passage's configuration, the functions.

A word is stemmed with its accents, which suffixes have, and what people leave out is dropped from the stem: so it
is found however it is typed. PostgreSQL's parser is not asked: what a word is, retrieve/words.py has said.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from trireme.postgres.configurations import ENGLISH_LATIN
from trireme.postgres.functions import FUNCTIONS
from trireme.retrieve.scripts import LETTERS_ALIKE
from trireme.retrieve.words import MOST_REPEATS

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

# What is left out of words whose first letter is of a script, as retrieve/scripts.py has it of all: first and last
# code points, letters with what they become, and marks. Short lists: translate() compares each letter with all.
_SCRIPTS = (
    (0x400, 0x52F, "\u0451\u0450\u045d", "\u0435\u0435\u0438", (0x300, 0x301)),
    (0x590, 0x5FF, "", "", (*range(0x591, 0x5BE), 0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7)),
    (
        0x600,
        0x6FF,
        "".join(letter for letter in LETTERS_ALIKE if letter > "\u0600"),
        "".join(plain for letter, plain in LETTERS_ALIKE.items() if letter > "\u0600"),
        (0x640, *range(0x64B, 0x653), 0x670),
    ),
)


def _bare_function() -> str:
    cases = []
    for first, last, letters, plain, marks in _SCRIPTS:
        dropped = "".join(map(chr, marks))
        cases.append(
            f"WHEN pg_catalog.ascii(word) BETWEEN {first} AND {last} "
            f"THEN pg_catalog.translate(word, '{letters}{dropped}', '{plain}')"
        )
    latin = "pg_catalog.regexp_replace(pg_catalog.normalize(word, 'NFD'), '[\u0300-\u036f]+', '', 'g')"
    alike = {letter: plain for letter, plain in LETTERS_ALIKE.items() if letter < "\u0300"}
    for letter, plain in alike.items():
        if len(plain) > 1:
            latin = f"pg_catalog.replace({latin}, '{letter}', '{plain}')"
    single = {letter: plain for letter, plain in alike.items() if len(plain) == 1}
    latin = f"pg_catalog.translate({latin}, '{''.join(single)}', '{''.join(single.values())}')"
    return f"""
    -- A folded word without what people leave out of it.
    CREATE OR REPLACE FUNCTION trireme.bare(word text) RETURNS text
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN pg_catalog.octet_length(word) = pg_catalog.char_length(word) THEN word {" ".join(cases)}
            WHEN pg_catalog.ascii(word) < 1024 OR pg_catalog.ascii(word) BETWEEN 7680 AND 8191
            THEN {latin}
            ELSE word END $$;
    """


def _read_functions() -> str:
    places = ", ".join(f"'{','.join(map(str, range(1, n + 1)))}'" for n in range(1, MOST_REPEATS + 1))
    english_latin = ", ".join(f"'{one}'" for one in sorted(ENGLISH_LATIN))
    return f"""
    -- The dictionary that stems a configuration's words; NULL for the one that stems none, and where the server has
    -- none yet: Estonian came with PostgreSQL 18.
    CREATE OR REPLACE FUNCTION trireme.stemmer(configuration text) RETURNS regdictionary
        LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
        SELECT oid::regdictionary FROM pg_ts_dict
        WHERE dictname = configuration || '_stem' AND dictnamespace = 'pg_catalog'::regnamespace $$;

    -- A word as the index has it; NULL for one that a configuration leaves out. Inlined: nothing may be set for it.
    CREATE OR REPLACE FUNCTION trireme.read_word(configuration text, stemmer regdictionary, word text) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE AS $$
        SELECT CASE
            WHEN stemmer IS NULL OR pg_catalog.translate(word, '0123456789', '') <> word THEN trireme.bare(word)
            WHEN configuration = 'english' AND trireme.bare(word) ~ '[^a-z]' THEN trireme.bare(word)
            WHEN configuration = 'english' OR configuration IN ({english_latin}) AND word !~ '[^a-z]'
                THEN (pg_catalog.ts_lexize('pg_catalog.english_stem', trireme.bare(word)))[1]
            ELSE trireme.bare((pg_catalog.ts_lexize(stemmer, word))[1]) END $$;

    -- The words of a passage: those that retrieve/words.py takes for plain are read as English, others as spelled.
    -- What a configuration leaves out is no compound for its accents either.
    CREATE OR REPLACE FUNCTION trireme.read_passage(configuration text, words text, exact tsvector) RETURNS tsvector
        LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            stemmer regdictionary := trireme.stemmer(configuration);
        BEGIN
            IF configuration = 'english' THEN
                RETURN to_tsvector('pg_catalog.english', words) || exact;
            END IF;
            RETURN (
                WITH read AS (
                    SELECT word, trireme.read_word(configuration, stemmer, word) AS lexeme, n
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
        ), stemmers AS MATERIALIZED (
            SELECT configuration, trireme.stemmer(configuration) AS stemmer
            FROM unnest(configurations) AS configuration
        ), read AS MATERIALIZED (
            SELECT word, is_word, configuration, trireme.read_word(configuration, stemmer, word) AS lexeme
            FROM words, stemmers
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
    connection.execute((TABLES + _bare_function() + _read_functions() + FUNCTIONS).encode())
