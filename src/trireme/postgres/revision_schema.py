"""What tells caches that a collection has changed: a revision that no two of its states share."""

from __future__ import annotations

# Triggers, so that no writer can forget it. Once for each transaction: a bulk load has thousands of statements, and
# each version of a row is walked past by the next. Writers of one collection take turns as it is.
TABLES = """
    ALTER TABLE trireme.collections
        ADD COLUMN revision uuid NOT NULL DEFAULT gen_random_uuid(),
        ADD COLUMN revised_in xid8 NOT NULL DEFAULT pg_current_xact_id();

    CREATE FUNCTION trireme.revise(ids bigint[]) RETURNS void LANGUAGE sql AS $$
        UPDATE trireme.collections SET revision = gen_random_uuid(), revised_in = pg_current_xact_id()
        WHERE id = ANY(ids) AND revised_in <> pg_current_xact_id() $$;

    CREATE FUNCTION trireme.revise_written() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.revise(ARRAY(SELECT DISTINCT collection_id FROM written));
            RETURN NULL;
        END $$;
    CREATE FUNCTION trireme.revise_removed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.revise(ARRAY(SELECT DISTINCT collection_id FROM removed));
            RETURN NULL;
        END $$;

    CREATE FUNCTION trireme.revise_switched() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM trireme.revise(ARRAY[NEW.collection_id]);
            RETURN NULL;
        END $$;

    CREATE TRIGGER revise_inserted AFTER INSERT ON trireme.passages REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.revise_written();
    CREATE TRIGGER revise_updated AFTER UPDATE ON trireme.passages REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.revise_written();
    CREATE TRIGGER revise_deleted AFTER DELETE ON trireme.passages REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.revise_removed();
    -- Which vectors a search compares: a switch to another index version.
    CREATE TRIGGER revise_switched AFTER UPDATE OF state ON trireme.indexes
        FOR EACH ROW WHEN (NEW.state = 'active') EXECUTE FUNCTION trireme.revise_switched();
    """
