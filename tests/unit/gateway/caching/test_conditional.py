"""Tags and what is answered to whom who has one."""

import pytest

from trireme.gateway.caching.conditional import Validator, is_tagged, judge, make_tag

TAG = "a" * 64


def test_a_tag_is_that_of_the_parts_whatever_their_order():
    first = make_tag({"tenant": "acme", "body": {"input": "x", "model": "m"}})
    assert first == make_tag({"body": {"model": "m", "input": "x"}, "tenant": "acme"})


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "acm", "body": {"input": "x", "model": "m"}},
        {"tenant": "acme", "body": {"input": "x ", "model": "m"}},
        {"tenant": "acme", "body": {"input": ["x"], "model": "m"}},
        {"tenant": "acme", "body": {"input": "x"}, "model": "m"},
        {"tenant": "acme", "body": {"input": "x", "model": "m", "more": None}},
        {"tenant": "acme", "body": '{"input":"x","model":"m"}'},
    ],
    ids=str,
)
def test_a_tag_changes_with_any_part(other):
    assert make_tag(other) != make_tag({"tenant": "acme", "body": {"input": "x", "model": "m"}})


@pytest.mark.parametrize("header", [f'"{TAG}"', f'W/"{TAG}"', f'"b", W/"{TAG}"', "*", f' "{TAG}" '])
def test_a_header_names_a_tag_weak_or_strong_alone_or_among_others(header):
    assert is_tagged(header, TAG)


@pytest.mark.parametrize("header", ["", '"b"', f'"{TAG[:-1]}"', f'"{TAG}a"', "W/*"[:1]])
def test_a_header_of_other_tags_names_it_not(header):
    assert not is_tagged(header, TAG)


def test_a_match_is_a_304_for_safe_methods_and_a_412_for_others_unless_they_opt_in():
    known = {"if-none-match": f'"{TAG}"'}
    assert judge("GET", known, TAG) == judge("QUERY", known, TAG) == "not_modified"
    assert judge("POST", known, TAG) == "failed"
    assert judge("POST", known | {"x-trireme-conditional": "304"}, TAG) == "not_modified"
    assert judge("POST", {"if-none-match": '"other"'}, TAG) == judge("QUERY", {}, TAG) == "answer"


def test_what_a_key_was_needed_for_is_never_public():
    private = dict(Validator(TAG, 60).headers(is_kept=True))
    assert private["cache-control"] == "private, max-age=60"
    assert private["vary"] == "authorization, x-api-key"
    public = dict(Validator(TAG, 60, is_public=True).headers(is_kept=False))
    assert public["cache-control"] == "public, max-age=60"
    # At its address a key is answered otherwise; at that of a kept answer nobody is.
    assert public["vary"] == private["vary"]
    assert "vary" not in dict(Validator(TAG, 60, is_public=True).headers(is_kept=True))
    assert (private["etag"], public["etag"]) == (f'"{TAG}"', f'W/"{TAG}"')
