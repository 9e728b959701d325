from trireme.observe.labels import OTHER, BoundedLabel


def test_the_first_values_of_a_label_pass_and_later_ones_are_one():
    label = BoundedLabel(most=2)
    assert [label(value) for value in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_values_that_are_known_keep_their_places_whatever_others_make_up():
    label = BoundedLabel(["llm"], most=2)
    assert [label(value) for value in ("x", "y", "z", "llm")] == ["x", "y", OTHER, "llm"]
