import pytest

from trireme.providers.tool_arguments import arguments_as_object, arguments_as_text, is_whole


@pytest.mark.parametrize(
    ("text", "value"),
    [("", {}), (" \n", {}), ("{}", {}), ('{"a":1}', {"a": 1}), ('{"ü":"世"}', {"ü": "世"})],
)
def test_text_of_an_object_becomes_the_object(text, value):
    assert arguments_as_object(text) == value


@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '{"a":1}}', "not json", "[" * 5000])
def test_what_is_no_object_is_kept_under_a_mark_and_comes_back_as_it_was(text):
    marked = arguments_as_object(text)
    assert marked == {"_invalid_json": text}
    assert arguments_as_text(marked) == text


def test_an_object_that_only_has_the_marks_name_beside_others_is_no_mark():
    assert arguments_as_text({"_invalid_json": "x", "a": 1}) == '{"_invalid_json":"x","a":1}'
    assert arguments_as_text({}) == "{}"


def test_only_a_closed_object_is_whole():
    assert is_whole('{"a": {"b": 1}}')
    assert not any(is_whole(text) for text in ("", '{"a": {"b": 1}', "[]", '{"a":1}x'))
