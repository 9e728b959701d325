"""The statements of the job queue in PostgreSQL, over procrastinate's tables."""

from __future__ import annotations

TASK = "trireme:ingest"
QUEUE = "ingest"

# Jobs are taken along the index of priorities, a few at a time. Row counts of a queue are never right, and the
# planner otherwise sorts all that waits, or joins it with itself: seconds for each set of jobs of a million.
PLAN = """
    SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_hashjoin', 'enable_mergejoin',
        'enable_seqscan', 'enable_bitmapscan', 'enable_sort']) AS name
    """

PUBLISH = """
    SELECT unnest(procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW(%s, %s, 0, lock, NULL, args::jsonb, NULL)::procrastinate_job_to_defer_v1
        FROM unnest(%b::text[], %b::text[]) AS new (lock, args))))
    """

TAKE = """
    WITH candidate AS MATERIALIZED (
        SELECT job.id, job.attempts
        FROM procrastinate_jobs job
        WHERE job.status = 'todo' AND job.queue_name = %(queue)s
            AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
            AND NOT EXISTS (
                SELECT FROM procrastinate_jobs other
                WHERE other.lock = job.lock AND other.id <> job.id AND (other.status = 'doing'
                    OR other.status = 'todo' AND other.id < job.id)
                    AND other.status IN ('todo', 'doing'))
        ORDER BY job.priority DESC, job.id
        LIMIT %(limit)s
        FOR UPDATE OF job SKIP LOCKED
    ), chosen AS (
        SELECT id FROM (
            SELECT id, row_number() OVER by_id AS n,
                count(*) FILTER (WHERE attempts >= %(suspect)s) OVER by_id AS suspects
            FROM candidate WINDOW by_id AS (ORDER BY id)
        ) AS counted WHERE n = 1 OR suspects = 0
    )
    UPDATE procrastinate_jobs job SET status = 'doing', worker_id = %(worker)s
    FROM chosen WHERE job.id = chosen.id
    RETURNING job.id, job.attempts
    """

SUBMISSIONS = """
    SELECT job, tenant, collection, document_id, digest, title, source, whole, extra, text, staged, staged_with
    FROM submissions WHERE job = ANY(%b)
    """

# What `job_info` makes a JobInfo of.
JOB = """
    job.id, job.tenant, job.collection, job.args ->> 'document', job.state, job.attempts,
    coalesce(submissions.error, ''), extract(epoch FROM job.created_at)::float8
    """

FIND = """
    FROM procrastinate_jobs job LEFT JOIN submissions ON submissions.job = job.id
    WHERE job.queue_name = %(queue)s
    """
# Field of a JobQuery -> the condition that it makes.
FIND_BY = {
    "ids": "job.id = ANY(%(ids)s)",
    "state": "job.state = %(state)s",
    "tenant": "job.tenant = %(tenant)s",
    "collection": "job.collection = %(collection)s",
    "batch": "job.args ->> 'batch' = %(batch)s",
}

# The ids of finished jobs are kept for a while, so that a client may ask; then they are unknown.
PRUNE = """
    DELETE FROM procrastinate_jobs WHERE status IN ('succeeded', 'cancelled') AND id IN (
        SELECT job_id FROM procrastinate_events
        WHERE type IN ('succeeded', 'cancelled') AND at < now() - make_interval(hours => %s)
        ORDER BY id LIMIT %s)
    """
