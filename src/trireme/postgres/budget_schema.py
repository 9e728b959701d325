"""The tables of the budgets: caps, in which order they changed, and the ledger of all attempts."""

from __future__ import annotations

# Version 7. A search's role sees nothing of it.
TABLES = """
    CREATE TABLE trireme.caps (
        -- '': the whole gateway. '*': each that has none of its own.
        tenant text COLLATE "C" NOT NULL,
        -- '': the tenant. "user" and "window" are words of SQL.
        caller text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL CHECK (period IN ('minute', 'day', 'month')),
        -- NULL: no limit. At most 2^53 - 1, as counters are doubles elsewhere.
        tokens bigint CHECK (tokens BETWEEN 0 AND 9007199254740991),
        -- Billionths of a US dollar.
        nanos bigint CHECK (nanos BETWEEN 0 AND 9007199254740991),
        PRIMARY KEY (tenant, caller, period),
        CHECK (tenant <> '' OR caller = ''),
        CHECK (num_nonnulls(tokens, nanos) > 0)
    );

    -- One row, locked by each change until it commits: the order of revisions is that of commits.
    CREATE TABLE trireme.cap_revision (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        revision bigint NOT NULL
    );
    INSERT INTO trireme.cap_revision (revision) VALUES (0);

    CREATE TABLE trireme.ledger (
        attempt text COLLATE "C" PRIMARY KEY,
        request text COLLATE "C" NOT NULL,
        tenant text COLLATE "C" NOT NULL,
        caller text COLLATE "C" NOT NULL,
        key_id text COLLATE "C" NOT NULL,
        endpoint text COLLATE "C" NOT NULL,
        provider text COLLATE "C" NOT NULL,
        asked text COLLATE "C" NOT NULL,
        served text COLLATE "C" NOT NULL,
        reserved_at timestamptz NOT NULL,
        tier text COLLATE "C" NOT NULL,
        step text COLLATE "C" NOT NULL,
        input_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        reasoning_tokens bigint NOT NULL,
        counted_by text COLLATE "C" NOT NULL,
        prices text COLLATE "C" NOT NULL,
        nanos bigint NOT NULL,
        saved_nanos bigint NOT NULL,
        held_tokens bigint NOT NULL,
        held_nanos bigint NOT NULL,
        outcome text COLLATE "C" NOT NULL,
        first_ms bigint NOT NULL,
        total_ms bigint NOT NULL,
        -- Its place in the order of the budget store; '' where none counted it.
        epoch text COLLATE "C" NOT NULL,
        seq bigint NOT NULL
    );
    CREATE INDEX ledger_time ON trireme.ledger (reserved_at);
    CREATE INDEX ledger_tenant ON trireme.ledger (tenant, reserved_at);

    CREATE FUNCTION trireme.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of trireme.% are appended and never changed', TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege';
        END $$;
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trireme.ledger
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.refuse_change();

    REVOKE ALL ON trireme.caps, trireme.cap_revision, trireme.ledger FROM trireme_tenant, PUBLIC;
    """
