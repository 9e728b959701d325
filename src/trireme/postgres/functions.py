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

    -- The passages with any of the query's words, the most relevant first, by BM25 (Robertson and Zaragoza 2009,
    -- "The Probabilistic Relevance Framework: BM25 and Beyond"), with k1 1.2, b 0.75 and Lucene's logarithm, which
    -- is never negative. A word's frequency is read off ts_rank, which of one word is the sum of 1, 1/4, 1/9, ...
    -- over its places by pi^2/6; that sum ends 1 / (n + 1/2) short of it.
    -- In collections of up to `scanned` passages all that match are read, so that a word's passages are counted
    -- exactly. Larger ones know how common their commoner words are (lexeme_schema.py): the passages with the
    -- rarest words of the query are read, about `scanned` of them and twice as many at the very most, and the
    -- other words count in those.
    -- Coverage, 0 to 1: relevance beside that of a usual passage that holds each word of the query once. What is
    -- found by its parts too (compounds) adds to the relevance and is no word that a passage could lack.
    -- Where passages are read by other configurations than English, a word is looked for as each of them reads it,
    -- by the eight that most passages are read by; what they make of one word counts as that one word.
    DROP FUNCTION IF EXISTS trireme.match_text(bigint, text, text[], text, text[], jsonb, bigint, bigint);
    CREATE OR REPLACE FUNCTION trireme.match_text(
        of_collection bigint, plain text, exact text[], plain_compounds text, compounds text[], wanted jsonb,
        most bigint, scanned bigint DEFAULT 10000, spelled text[] DEFAULT '{}', grams text[] DEFAULT '{}'
    ) RETURNS TABLE (key bigint, relevance float8, coverage float8)
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        total bigint;
        usual float8;
        is_small boolean;
        configurations text[];
        is_english boolean;
        sought text;
        frequencies text;
        counts text;
        rarities text;
        relevances text;
        best text;
    BEGIN
        SELECT c.passages, greatest(1, c.words::float8 / greatest(1, c.passages)), c.passages <= scanned,
                ARRAY(SELECT r.key FROM jsonb_each_text(c.readings) AS r WHERE r.value::bigint > 0
                    ORDER BY r.value::bigint DESC, r.key LIMIT 8)
            INTO total, usual, is_small, configurations FROM trireme.collections c
            WHERE c.id = of_collection AND c.tenant = current_setting('trireme.tenant', true);
        is_english := configurations <@ ARRAY['english'];
        WITH every (word, lexeme, is_word) AS (
            SELECT lexeme, lexeme, true FROM unnest(to_tsvector('pg_catalog.english', plain)) WHERE is_english
            UNION ALL SELECT one, one, true FROM unnest(exact) AS one WHERE is_english
            UNION ALL SELECT lexeme, lexeme, false FROM unnest(to_tsvector('pg_catalog.english', plain_compounds))
                WHERE is_english
            UNION ALL SELECT one, one, false FROM unnest(compounds) AS one WHERE is_english
            UNION ALL SELECT one, one, true FROM unnest(grams) AS one WHERE NOT is_english
            UNION ALL SELECT r.word, r.lexeme, r.is_word
                FROM trireme.read_query(configurations, spelled, plain_compounds, compounds) AS r
                WHERE NOT is_english
        ), read AS (
            SELECT array_agg(DISTINCT lexeme ORDER BY lexeme) AS lexemes, bool_or(every.is_word) AS is_word
            FROM every GROUP BY every.word
        ), known AS (
            SELECT (SELECT string_agg('''' || replace(replace(one, '\', '\\'), '''', '''''') || '''', ' | ')
                    FROM unnest(q.lexemes) AS one) AS word, q.is_word,
                CASE WHEN is_small THEN 0 ELSE total * coalesce(
                    (SELECT least(1, sum(s.share)) FROM trireme.lexemes s
                    WHERE s.collection_id = of_collection AND s.lexeme = ANY(q.lexemes)), 0) END AS expected
            FROM (SELECT lexemes, bool_or(is_word) AS is_word FROM read GROUP BY lexemes) AS q
        ), ordered AS (
            SELECT word, expected, is_word OR NOT bool_or(is_word) OVER () AS is_sought,
                row_number() OVER rarest AS n, sum(expected) OVER rarest AS running
            FROM known WINDOW rarest AS (ORDER BY expected, is_word DESC, word)
        ), kept AS (
            SELECT *, n = 1 OR running <= scanned AS is_scanned FROM ordered WHERE n <= 64
        )
        SELECT string_agg(word, ' | ') FILTER (WHERE is_scanned),
            string_agg(format('greatest(%s) AS f%s', (SELECT string_agg(format('round(1 / (1.644934066848 '
                '- 1.64493406685 * ts_rank(''{1,1,1,1}'', p.tsv, %L)) - 0.5)', one), ', ')
                FROM string_to_table(word, ' | ') AS one), n), ', '),
            string_agg(format(CASE WHEN is_scanned THEN 'greatest(count(*) FILTER (WHERE f%1$s > 0), %2$s::float8)'
                ELSE '%2$s::float8' END || ' AS d%1$s', n, expected), ', '),
            string_agg(format('ln(1 + greatest($5 - d%1$s + 0.5, 0.5) / (d%1$s + 0.5)) AS r%1$s', n), ', '),
            string_agg(format('r%1$s * f%1$s * 2.2 / (f%1$s + 1.2 * (0.25 + 0.75 * words / $6))', n), ' + '),
            coalesce(string_agg('r' || n, ' + ') FILTER (WHERE is_sought), string_agg('r' || n, ' + '))
            INTO sought, frequencies, counts, rarities, relevances, best FROM kept;
        IF total IS NULL OR sought IS NULL THEN
            RETURN;
        END IF;
        RETURN QUERY EXECUTE format(
            'WITH matched AS MATERIALIZED (SELECT p.key, p.id, p.words, '
            '$4 IS NULL OR p.filterable @> $4 AS passes, %s '
            'FROM trireme.passages p WHERE p.collection_id = $1 AND p.tenant = $2 AND p.tsv @@ $3 '
            'AND ($9 OR $4 IS NULL OR p.filterable @> $4) LIMIT $7), '
            'counted AS (SELECT %s FROM matched), rarity AS (SELECT %s FROM counted), '
            'found AS (SELECT key, id, (%s)::float8 AS relevance, (%s)::float8 AS best FROM matched, rarity '
            'WHERE passes) '
            'SELECT key, relevance, least(1, relevance / best) FROM found ORDER BY relevance DESC, id LIMIT $8',
            frequencies, counts, rarities, relevances, best)
            USING of_collection, current_setting('trireme.tenant', true), sought::tsquery, wanted,
                total, usual, 2 * scanned, most, is_small;
    END $$;

    REVOKE ALL ON FUNCTION trireme.match_filter, trireme.match_text FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION trireme.match_filter, trireme.match_text TO trireme_tenant;
    """
