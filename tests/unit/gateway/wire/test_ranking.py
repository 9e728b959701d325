import numpy as np

from trireme.gateway.wire.ranking import Ranked, best_first, to_relevance

SCORES = np.array([-1.0, 2.0, 0.0, 2.0], np.float32)


def test_documents_are_sorted_and_equal_ones_keep_their_order():
    assert [one.index for one in best_first(SCORES)] == [1, 3, 2, 0]
    assert [one.index for one in best_first(SCORES, 2)] == [1, 3]
    assert len(best_first(SCORES, 100)) == 4
    assert best_first(np.zeros(0, np.float32)) == []


def test_relevance_is_the_logistic_function_from_0_to_1():
    relevance = [one.relevance for one in best_first(SCORES)]
    np.testing.assert_allclose(relevance, [0.8807970779778823] * 2 + [0.5, 0.2689414213699951])
    np.testing.assert_array_equal(to_relevance([-1e30, 1e30]), [0.0, 1.0])


def test_raw_scores_are_the_models_own():
    assert best_first(SCORES, 1, raw=True) == [Ranked(1, 2.0)]
