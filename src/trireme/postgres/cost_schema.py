"""The tables of cost: when machines were up, which releases were deployed, and the release of a ledger's row."""

from __future__ import annotations

# Version 12. Rows from before keep a NULL: the ledger's rows are never changed, so nobody says what they were of.
TABLES = """
    ALTER TABLE trireme.ledger ADD COLUMN release text COLLATE "C";

    -- A machine was up from `began` to `seen`, which each beat moves on.
    CREATE TABLE trireme.machine_spans (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        machine text COLLATE "C" NOT NULL,
        kind text COLLATE "C" NOT NULL,
        release text COLLATE "C" NOT NULL,
        began timestamptz NOT NULL,
        seen timestamptz NOT NULL,
        CHECK (began <= seen)
    );
    CREATE INDEX machine_spans_last ON trireme.machine_spans (machine, seen);
    CREATE INDEX machine_spans_seen ON trireme.machine_spans (seen);

    CREATE TABLE trireme.releases (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        release text COLLATE "C" NOT NULL,
        version text NOT NULL,
        revision text NOT NULL,
        models jsonb NOT NULL,
        -- '': it was deployed.
        note text NOT NULL
    );
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trireme.releases
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.refuse_change();

    REVOKE ALL ON trireme.machine_spans, trireme.releases FROM trireme_tenant, PUBLIC;
    """

# Version 13. A request is looked up by its id.
REQUEST_INDEX = "CREATE INDEX ledger_request ON trireme.ledger (request, reserved_at)"
