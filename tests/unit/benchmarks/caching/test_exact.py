from benchmarks.caching.exact import ANSWER_BYTES, make_entry, make_question, measure_exact, summarize


def test_questions_differ_and_entries_are_the_same_for_a_seed():
    one, other = make_question(1), make_question(2)
    assert one.key != other.key and one.tenant == other.tenant
    assert make_entry(one, 1).body == make_entry(one, 1).body != make_entry(one, 2).body
    assert len(make_entry(one, 1).body) == ANSWER_BYTES


def test_percentiles_are_those_of_the_times():
    row = summarize("hit", 10, [float(n) for n in range(101)], 10)
    assert (row.p50_ms, row.p99_ms, row.lookups) == (50.0, 99.0, 101)


def test_a_store_with_few_entries_gives_rows_of_hits_misses_and_keeps(tmp_path):
    rows = measure_exact(tmp_path, (20, 50), 5, 1)
    assert [(row.what, row.entries) for row in rows] == [
        (what, size) for size in (20, 50) for what in ("hit", "miss", "keep")
    ]
    assert [row.left for row in rows] == [20] * 3 + [50] * 3
