"""Files of labelled answers."""

import json
from dataclasses import replace

import pytest

from trireme.cascade.evidence import Evidence
from trireme.cascade.labelled import Labelled, format_labelled, read_labelled
from trireme.errors import SettingError

ONE = Labelled("rag", (("llm", "a"), ("rag", "b")), Evidence(tokens=3, logprob_p05=-0.5), True, {"id": "q1"})


def record(**changes):
    return json.loads(format_labelled(ONE)) | changes


def test_what_is_written_is_read_as_it_was(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(format_labelled(ONE) + "\n" + format_labelled(ONE))
    assert list(read_labelled(path)) == [ONE, ONE]


def test_evidence_of_first_tokens_says_of_how_many_and_other_evidence_is_of_all(tmp_path):
    path = tmp_path / "answers.jsonl"
    first = replace(ONE, decide_after=32)
    plain = {name: value for name, value in record().items() if name != "decide_after"}
    path.write_text(format_labelled(first) + json.dumps(plain))
    assert list(read_labelled(path)) == [first, ONE]


def test_features_that_are_left_out_are_not_known(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(record(evidence={"tokens": 3, "sentence_score": 1})))
    (found,) = read_labelled(path)
    assert found.evidence == Evidence(tokens=3, sentence_score=1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        (json.dumps(record(step=3)), "'step'"),
        (json.dumps(record(right=1)), "'right' to true or false"),
        (json.dumps(record(right=None)), "'right'"),
        (json.dumps(record(versions={"llm": ""})), "'versions'"),
        (json.dumps(record(versions=[])), "'versions'"),
        (json.dumps(record(evidence={"tokens": 3, "mood": 1})), "unknown key 'mood'"),
        (json.dumps(record(evidence={})), "lacks the key 'tokens'"),
        (json.dumps(record(evidence={"tokens": None})), "'tokens' in 'evidence' is not of type int"),
        (json.dumps(record(evidence={"tokens": True})), "'tokens' in 'evidence' is not of type int"),
        (
            json.dumps(record(evidence={"tokens": 3, "is_cut": 0})),
            "'is_cut' in 'evidence' is not of type bool",
        ),
        (
            '{"step": "a", "versions": {}, "right": true, "evidence": {"tokens": 1, "logprob_p05": NaN}}',
            "not finite",
        ),
        (json.dumps(record(evidence={"tokens": 10**400})), "not finite"),
        (json.dumps(record(decide_after=0)), "'decide_after'"),
        (json.dumps(record(decide_after=True)), "'decide_after'"),
        (json.dumps(record(decide_after=None)), "'decide_after'"),
    ],
)
def test_a_line_that_is_not_as_declared_is_named_with_its_number(tmp_path, line, said):
    path = tmp_path / "answers.jsonl"
    path.write_text(format_labelled(ONE) + line + "\n")
    with pytest.raises(SettingError, match=said) as caught:
        list(read_labelled(path))
    assert "answers.jsonl line 2" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"absent.jsonl: No such file"):
        list(read_labelled(tmp_path / "absent.jsonl"))
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(SettingError, match=r"bytes.jsonl is not UTF-8"):
        list(read_labelled(tmp_path / "bytes.jsonl"))
