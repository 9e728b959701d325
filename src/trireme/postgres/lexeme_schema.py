"""What BM25 knows of a collection: how many words its passages have, and how common its commoner words are.

Rare words are counted by the search itself, which reads all of their passages. Common ones are counted in a sample
of the passages: once there are SAMPLE of them, and again whenever a quarter of them has changed.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from trireme.postgres.functions import FUNCTIONS

# Passages that a sample has, at the least; a word that LEAST of them hold has its share known within a half or so.
SAMPLE, LEAST = 5000, 3
# Of a collection's passages, how many may have changed before they are counted again: one in STALE.
STALE = 4

# Triggers, so that no writer can forget it. Writers of one collection take turns as it is. Nothing is granted: no
# role but the owner's functions reads the shares, and those keep to the tenant's collection.
TABLES = f"""
    -- As searches and writers lock them: of two that hold one and want the other, the one that came last gives way,
    -- and after a table has been rewritten that is this.
    LOCK TABLE trireme.collections, trireme.passages IN ACCESS EXCLUSIVE MODE;

    CREATE FUNCTION trireme.count_words(words tsvector) RETURNS integer
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT coalesce(sum(pg_catalog.cardinality(positions)), 0)::integer FROM pg_catalog.unnest(words) $$;

    ALTER TABLE trireme.passages
        ADD COLUMN words integer NOT NULL GENERATED ALWAYS AS (trireme.count_words(tsv)) STORED;
    ALTER TABLE trireme.collections
        ADD COLUMN words bigint NOT NULL DEFAULT 0,
        -- Passages written or removed since the shares were counted.
        ADD COLUMN uncounted bigint NOT NULL DEFAULT 0;

    CREATE TABLE trireme.lexemes (
        collection_id bigint NOT NULL REFERENCES trireme.collections (id) ON DELETE CASCADE,
        lexeme text COLLATE "C" NOT NULL,
        -- Of the collection's passages, how many hold it: 0 to 1.
        share real NOT NULL,
        PRIMARY KEY (collection_id, lexeme)
    );
    ALTER TABLE trireme.lexemes ENABLE ROW LEVEL SECURITY;

    CREATE FUNCTION trireme.count_lexemes(of_collection bigint) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            every bigint;
        BEGIN
            -- Counted: the collection's own number of passages comes after the statement that writes them.
            SELECT greatest(1, count(*) / {SAMPLE}) INTO every FROM trireme.passages
                WHERE collection_id = of_collection;
            DELETE FROM trireme.lexemes WHERE collection_id = of_collection;
            WITH drawn AS MATERIALIZED (
                SELECT tsv FROM trireme.passages
                WHERE collection_id = of_collection AND abs(hashint8(key)::bigint) % every = 0)
            INSERT INTO trireme.lexemes
            SELECT of_collection, lexeme, count(*)::real / (SELECT count(*) FROM drawn)
            FROM drawn, unnest(tsv) GROUP BY lexeme HAVING count(*) >= {LEAST};
            UPDATE trireme.collections SET uncounted = 0 WHERE id = of_collection;
        END $$;

    -- What a statement wrote (1) or removed (-1) of passages.
    CREATE FUNCTION trireme.count_change(of_collection bigint, rows bigint, of_words bigint, sign integer)
        RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            is_due boolean;
        BEGIN
            UPDATE trireme.collections SET words = words + sign * of_words, uncounted = uncounted + rows
                WHERE id = of_collection RETURNING uncounted >= {SAMPLE} + passages / {STALE} INTO is_due;
            IF is_due THEN
                PERFORM trireme.count_lexemes(of_collection);
            END IF;
        END $$;
    CREATE FUNCTION trireme.count_written() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.count_change(collection_id, count(*), sum(words), 1)
                FROM written GROUP BY collection_id;
            RETURN NULL;
        END $$;
    CREATE FUNCTION trireme.count_removed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.count_change(collection_id, count(*), sum(words), -1)
                FROM removed GROUP BY collection_id;
            RETURN NULL;
        END $$;
    -- A text stays what it is; only other rules of reading words change them. No join: its plan is kept for a
    -- session, and one made for a single row compares every row with every other.
    CREATE FUNCTION trireme.count_reread() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.count_change(collection_id, count(*), sum(change)::bigint, 1) FROM (
                SELECT collection_id, sum(n) AS change FROM (
                    SELECT collection_id, key, words AS n FROM written
                    UNION ALL SELECT collection_id, key, -words FROM removed) AS both_of
                GROUP BY collection_id, key HAVING sum(n) <> 0) AS changed
                GROUP BY collection_id;
            RETURN NULL;
        END $$;
    CREATE TRIGGER count_inserted AFTER INSERT ON trireme.passages REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.count_written();
    CREATE TRIGGER count_updated AFTER UPDATE ON trireme.passages
        REFERENCING OLD TABLE AS removed NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.count_reread();
    CREATE TRIGGER count_deleted AFTER DELETE ON trireme.passages REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.count_removed();

    -- A new revision: answers that caches hold were ranked otherwise, and to a search that began before this
    -- transaction the rewritten table looks empty.
    UPDATE trireme.collections c SET revision = gen_random_uuid(), words = coalesce(
        (SELECT sum(p.words) FROM trireme.passages p WHERE p.collection_id = c.id), 0);
    SELECT trireme.count_lexemes(id) FROM trireme.collections WHERE passages >= {SAMPLE};
    """  # noqa: S608 - of numbers above


def add_lexemes(connection: Connection[Any]) -> None:
    """The statistics of BM25, those of what is stored already, and the search that reads them."""
    connection.execute((TABLES + FUNCTIONS).encode())
