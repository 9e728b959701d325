import numpy as np
import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.wire.lengths import check_pairs, read_over_length


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ((None, None, None), None),
        (("split", None, None), "split"),
        ((None, True, None), "truncate"),
        ((None, False, None), "error"),
        ((None, "NONE", None), "error"),
        ((None, "END", -1), "truncate"),
        (("error", "NONE", None), "error"),
    ],
)
def test_each_wires_words_are_one_of_three_policies(given, asked):
    assert read_over_length(*given) == asked


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ((None, "START", None), "truncate", "lose the end"),
        ((None, None, 512), "truncate_prompt_tokens", "which is -1"),
        (("split", True, None), "truncate", "over_length and truncate contradict"),
        ((None, "NONE", -1), "truncate_prompt_tokens", "truncate and truncate_prompt_tokens contradict"),
    ],
)
def test_what_no_model_does_and_what_contradicts_is_named(given, field, said):
    with pytest.raises(InvalidInputError, match=said) as found:
        read_over_length(*given)
    assert found.value.param == field


def test_a_document_that_a_model_cut_though_it_must_not_is_named():
    cut = np.array([0, 7], np.int32)
    with pytest.raises(InvalidInputError, match=r"documents\[1\] have 7 tokens more"):
        check_pairs("error", cut)
    for policy in (None, "truncate", "split"):
        check_pairs(policy, cut)
    check_pairs("error", cut[:1])
