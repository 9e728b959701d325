"""The tables of the keys: who may call, in which order keys changed, and how much was asked in a minute."""

from __future__ import annotations

# Version 6. A search's role sees nothing of it: a digest would tell of a key, a tenant of another one.
TABLES = """
    CREATE TABLE trireme.keys (
        id text COLLATE "C" PRIMARY KEY,
        -- SHA-256 of the secret, which nothing keeps.
        digest text COLLATE "C" NOT NULL UNIQUE,
        tenant text COLLATE "C" NOT NULL,
        -- The user of the tenant; "user" is a word of SQL.
        caller text COLLATE "C" NOT NULL,
        -- Empty: all.
        models text[] NOT NULL,
        collections text[] NOT NULL,
        endpoints text[] NOT NULL,
        -- 0: no limit.
        requests_per_minute integer NOT NULL CHECK (requests_per_minute >= 0),
        created_at timestamptz NOT NULL,
        revoked_at timestamptz
    );
    CREATE INDEX keys_tenant ON trireme.keys (tenant, created_at);

    -- One row, locked by each change until it commits: the order of revisions is that of commits.
    CREATE TABLE trireme.key_revision (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        revision bigint NOT NULL
    );
    INSERT INTO trireme.key_revision (revision) VALUES (0);

    -- The minute in which a key was last used, and its requests in it. Lost with a crash, which costs a minute.
    CREATE UNLOGGED TABLE trireme.key_minutes (
        key_id text COLLATE "C" PRIMARY KEY,
        minute timestamptz NOT NULL,
        requests integer NOT NULL
    -- Room for the next version of a row on its page: the index is left alone.
    ) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

    REVOKE ALL ON trireme.keys, trireme.key_revision, trireme.key_minutes FROM trireme_tenant, PUBLIC;
    """

# Version 10. How urgent a key's requests are; keys made before are as urgent as any.
PRIORITY = "ALTER TABLE trireme.keys ADD COLUMN priority text NOT NULL DEFAULT 'normal'"

# Version 11. What was written by hand in other words counts as normal, and is written so no more. Running gateways
# read the keys anew.
PRIORITY_CHECK = """
    UPDATE trireme.keys SET priority = 'normal' WHERE priority NOT IN ('batch', 'normal', 'high');
    ALTER TABLE trireme.keys ADD CONSTRAINT keys_priority CHECK (priority IN ('batch', 'normal', 'high'));
    UPDATE trireme.key_revision SET revision = revision + 1;
    """
