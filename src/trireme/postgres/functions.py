r"""The SQL functions of searches.

Row-level security checks a row's tenant before any operator that might leak what it sees, and the operators of
words and of JSON might: under it they never use their indexes. These functions run as their owner, whom row-level
security does not hold, and keep to the tenant of the setting `trireme.tenant` themselves.
"""

from __future__ import annotations

FUNCTIONS = r"""
    CREATE OR REPLACE FUNCTION trireme.match_filter(of_collection bigint, wanted jsonb, most bigint)
        RETURNS SETOF bigint
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        -- Dynamic, so that every call is planned for its own values.
        RETURN QUERY EXECUTE 'SELECT p.key FROM trireme.passages p WHERE p.collection_id = $1 '
            'AND p.tenant = $2 AND p.filterable @> $3 LIMIT $4'
            USING of_collection, current_setting('trireme.tenant', true), wanted, most;
    END $$;

    -- The passages with any of the query's words, the most relevant first. Relevance is BM25's idea (Robertson
    -- and Zaragoza 2009): rare words weigh more, a word repeated adds less each time, long passages count a
    -- little less. ts_rank of one word saturates as BM25's term frequency does. Rarity is counted among the
    -- matches, which are all of the passages with the word. In large collections the commonest words are left
    -- out, by the planner's statistics, so that about `scanned` rows are read; twice as many at the very most.
    -- Coverage, 0 to 1: relevance beside that of a usual passage that holds each word of the query once. What is
    -- found by its parts too (compounds) adds to the relevance and is no word that a passage could lack.
    CREATE OR REPLACE FUNCTION trireme.match_text(
        of_collection bigint, plain text, exact text[], plain_compounds text, compounds text[], wanted jsonb,
        most bigint, scanned bigint DEFAULT 10000
    ) RETURNS TABLE (key bigint, relevance float8, coverage float8)
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        total bigint;
        words text[];
        are_sought boolean[];
        columns text;
        rarities text;
        relevances text;
        sought text;
    BEGIN
        SELECT c.passages INTO total FROM trireme.collections c
            WHERE c.id = of_collection AND c.tenant = current_setting('trireme.tenant', true);
        SELECT array_agg(quoted ORDER BY n), array_agg(is_sought ORDER BY n) INTO words, are_sought FROM (
            SELECT quoted, is_sought, row_number() OVER rarest AS n, sum(expected) OVER rarest AS running FROM (
                SELECT '''' || replace(replace(q.lexeme, '\', '\\'), '''', '''''') || '''' AS quoted,
                    coalesce(s.frequency, 0) * total AS expected,
                    q.is_word OR NOT bool_or(q.is_word) OVER () AS is_sought
                FROM (
                    SELECT lexeme, bool_or(is_word) AS is_word FROM (
                        SELECT lexeme, true FROM unnest(to_tsvector('pg_catalog.english', plain))
                        UNION ALL SELECT unnest(exact), true
                        UNION ALL SELECT lexeme, false
                            FROM unnest(to_tsvector('pg_catalog.english', plain_compounds))
                        UNION ALL SELECT unnest(compounds), false
                    ) AS every (lexeme, is_word) GROUP BY lexeme
                ) q
                LEFT JOIN (
                    SELECT unnest(most_common_elems::text::text[]) AS lexeme,
                        unnest(most_common_elem_freqs) AS frequency
                    FROM pg_stats WHERE total > scanned
                    AND schemaname = 'trireme' AND tablename = 'passages' AND attname = 'tsv'
                ) s ON s.lexeme = q.lexeme
            ) AS one WINDOW rarest AS (ORDER BY expected, is_sought DESC, quoted)
        ) AS ordered WHERE n = 1 OR (running <= scanned AND n <= 64);
        IF total IS NULL OR words IS NULL THEN
            RETURN;
        END IF;
        SELECT string_agg(format('ts_rank(''{1,1,1,1}'', p.tsv, %L) AS w%s', word, n), ', '),
            string_agg(format('ln(1 + greatest($5 - count(*) FILTER (WHERE w%1$s > 0) + 0.5, 0.5)'
                ' / (count(*) FILTER (WHERE w%1$s > 0) + 0.5)) AS r%1$s', n), ', '),
            string_agg(format('w%1$s * r%1$s', n), ' + '),
            coalesce(string_agg('r' || n, ' + ') FILTER (WHERE is_sought), string_agg('r' || n, ' + '))
            INTO columns, rarities, relevances, sought
            FROM unnest(words, are_sought) WITH ORDINALITY AS one (word, is_sought, n);
        RETURN QUERY EXECUTE format(
            'WITH matched AS MATERIALIZED (SELECT p.key, length(p.tsv) AS size, %s FROM trireme.passages p '
            'WHERE p.collection_id = $1 AND p.tenant = $2 AND p.tsv @@ $3 AND ($4 IS NULL OR p.filterable @> $4) '
            'LIMIT $6), rarity AS (SELECT avg(size) AS usual, %s FROM matched), '
            'found AS (SELECT key, ((%s) / (0.7 + 0.3 * size / usual))::float8 AS relevance, '
            '((%s) * ts_rank(''{1,1,1,1}'', ''w:1''::tsvector, ''w''::tsquery))::float8 AS sought '
            'FROM matched, rarity) '
            'SELECT key, relevance, least(1, relevance / sought) FROM found ORDER BY relevance DESC, key LIMIT $7',
            columns, rarities, relevances, sought)
            USING of_collection, current_setting('trireme.tenant', true), array_to_string(words, ' | ')::tsquery,
                wanted, total, 2 * scanned, most;
    END $$;

    REVOKE ALL ON FUNCTION trireme.match_filter, trireme.match_text FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION trireme.match_filter, trireme.match_text TO trireme_tenant;
    """
