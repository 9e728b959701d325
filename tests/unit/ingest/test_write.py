"""The last step of a worker: what cannot be written, and collections that change their embedder."""

from fakes.worker import OTHER, document


def test_a_document_that_cannot_be_written_ends_alone(bench):
    bench.publish(document("taken#0"))
    bench.run()
    bench.worker = bench.hire()
    good, bad, other = bench.publish(
        document("x", "one"), document("taken", "two words", whole=False), document("y", "three")
    )
    bench.run()
    assert bench.info(good).state == bench.info(other).state == "done"
    assert bench.info(bad).state == "dead"
    assert "belongs to document 'taken#0'" in bench.info(bad).error


def test_a_collection_that_was_switched_meanwhile_is_written_with_its_new_embedder(bench):
    bench.documents.embedders["t", "c"] = OTHER
    (job,) = bench.publish(document("a"))
    bench.run()
    assert bench.info(job).state == "done"
    assert bench.info(job).attempts == 0


def test_a_collection_that_stays_another_embedders_ends_the_job_and_does_not_go_round_for_ever(bench):
    bench.documents.embedders["t", "c"] = OTHER
    bench.forget = lambda: None
    (job,) = bench.publish(document("a"))
    bench.run()
    assert bench.info(job).state == "dead"
    assert "holds vectors of embedder" in bench.info(job).error
    assert len(bench.server.requests) == 5


def test_collections_are_kept_apart(bench):
    bench.publish(document("a", "one"))
    bench.publish(document("a", "two"), collection="d")
    bench.run()
    assert [passage.text for passage, _ in bench.rows("a").values()] == ["one"]
    assert [passage.text for passage, _ in bench.rows("a", "d").values()] == ["two"]
