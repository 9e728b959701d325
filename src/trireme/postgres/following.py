"""SQL of replication: what is published, what a follower has beside it, and what is known of the links."""

from __future__ import annotations

from typing import Any

from trireme.retrieve.replication import ReplicationLink

PUBLICATION = "trireme"
# Of slots; a follower's name stands behind it.
SLOT = "trireme_"
# What searches and keys need. In the order in which a new follower empties them.
COLLECTION_TABLES = ("embeddings", "lexemes", "passages", "documents", "indexes", "collections")
TABLES = (*COLLECTION_TABLES, "keys")
# Of our own: a follower refuses what is written elsewhere.
REFUSED = "TR001"

# Statements of this database alone fire these triggers: what comes from the home is applied in the role of a
# replica. The changes of a new version of the schema are let through: the home makes the same ones.
FOLLOW = """
    CREATE OR REPLACE FUNCTION trireme.refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF coalesce(current_setting('trireme.migrates', true), '') <> 'on' THEN
                RAISE EXCEPTION 'collections are written in region % alone, which this database follows; send it'
                    ' there', TG_ARGV[0] USING ERRCODE = '{refused}';
            END IF;
            RETURN NULL;
        END $$;
    CREATE OR REPLACE FUNCTION trireme.note_keys() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE trireme.key_revision SET revision = greatest(
                revision + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
            RETURN NULL;
        END $$;
    """

# Whether this database follows another one, or did and has not taken its place.
IS_FOLLOWER = "SELECT to_regprocedure('trireme.refuse_write()') IS NOT NULL"

# The home's name is a literal of the trigger.
REFUSE = """
    CREATE OR REPLACE TRIGGER follower BEFORE {events} ON trireme.{table}
        FOR EACH STATEMENT EXECUTE FUNCTION trireme.refuse_write({home})
    """

# A key that is made or revoked at the home must be read here.
NOTE_KEYS = """
    CREATE OR REPLACE TRIGGER follower AFTER INSERT OR UPDATE OR DELETE ON trireme.keys
        FOR EACH ROW EXECUTE FUNCTION trireme.note_keys();
    ALTER TABLE trireme.keys ENABLE REPLICA TRIGGER follower;
    """

LET_GO = """
    DROP FUNCTION IF EXISTS trireme.refuse_write() CASCADE;
    DROP FUNCTION IF EXISTS trireme.note_keys() CASCADE;
    """

# Numbers that were given out at the home are taken; transactions there have numbers of their own.
TAKE_OVER = """
    SELECT setval(pg_get_serial_sequence('trireme.collections', 'id'),
            coalesce(max(id), 0) + 1, false) FROM trireme.collections;
    SELECT setval(pg_get_serial_sequence('trireme.indexes', 'id'), coalesce(max(id), 0) + 1, false)
        FROM trireme.indexes;
    SELECT setval(pg_get_serial_sequence('trireme.documents', 'key'), coalesce(max(key), 0) + 1, false)
        FROM trireme.documents;
    SELECT setval(pg_get_serial_sequence('trireme.passages', 'key'), coalesce(max(key), 0) + 1, false)
        FROM trireme.passages;
    UPDATE trireme.collections SET revision = gen_random_uuid(), revised_in = pg_current_xact_id();
    """

# received - latest_end: what has come and is not flushed here.
FOLLOWED = """
    SELECT s.subname, s.subenabled, st.pid IS NOT NULL,
        coalesce(pg_wal_lsn_diff(st.received_lsn, st.latest_end_lsn), 0)::bigint,
        extract(epoch FROM clock_timestamp() - st.last_msg_receipt_time)::float8,
        (SELECT count(*) FROM pg_subscription_rel r WHERE r.srsubid = s.oid AND r.srsubstate <> 'r'),
        coalesce(e.apply_error_count + e.sync_error_count, 0)
    FROM pg_subscription s
    JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
    LEFT JOIN pg_stat_subscription st ON st.subid = s.oid AND st.worker_type = 'apply'
    LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid
    WHERE s.subname ^@ 'trireme_' ORDER BY s.subname
    """

FOLLOWERS = """
    SELECT substr(l.slot_name, 9), l.active, l.wal_status,
        coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), l.confirmed_flush_lsn), 0)::bigint,
        extract(epoch FROM clock_timestamp() - coalesce(r.reply_time, l.inactive_since))::float8,
        l.safe_wal_size
    FROM pg_replication_slots l LEFT JOIN pg_stat_replication r ON r.pid = l.active_pid
    WHERE l.database = current_database() AND l.slot_name ^@ 'trireme_' AND NOT l.temporary
    ORDER BY l.slot_name
    """

# What PostgreSQL says of a slot that is in danger.
STATES = {"lost": "lost", "unreserved": "nearly lost"}


def home_link(row: tuple[Any, ...]) -> ReplicationLink:
    """A row of FOLLOWED."""
    name, is_enabled, runs, behind, silent, copying, faults = row
    state = "following" if runs else "waiting" if is_enabled else "stopped"
    if copying:
        state = f"copying {copying} tables"
    if faults:
        state += f", {faults} errors so far"
    return ReplicationLink(
        "follower",
        name.removeprefix(SLOT),
        bool(runs) and silent is not None,
        state,
        max(0, behind),
        silent,
    )


def follower_link(row: tuple[Any, ...]) -> ReplicationLink:
    """A row of FOLLOWERS."""
    name, is_active, status, behind, silent, left = row
    state = STATES.get(status) or ("followed" if is_active else "away")
    return ReplicationLink("home", name, is_active, state, max(0, behind), silent, left)
