import pytest

from fakes.rag import hit
from trireme.errors import SettingError
from trireme.rag.relevance import RelevanceModel, read_relevance

MODEL = RelevanceModel(-4.0, 8.0, -0.5, frozenset({"what", "capital", "port", "year"}))
TOML = 'bias = -4\nsentence = 8.0\nmissing = -0.5\ncommon_words = """\nwhat capital\nport year\n"""\n'


def test_the_chance_grows_with_the_score_and_falls_with_what_is_missing():
    assert MODEL.chance(0.5, 0) == pytest.approx(0.5)
    assert MODEL.chance(0.6, 0) > 0.5 > MODEL.chance(0.5, 1) > MODEL.chance(0.5, 3)


@pytest.mark.parametrize(("score", "chance"), [(1e9, 1.0), (-1e9, 0.0), (float("nan"), 0.0)])
def test_the_chance_of_any_score_is_between_0_and_1(score, chance):
    assert MODEL.chance(score, 0) == pytest.approx(chance)


@pytest.mark.parametrize(
    ("question", "rare"),
    [
        ("What is the capital of Quito?", {"quito"}),
        # Capital letters name things, except at the beginning.
        ("What is the Capital?", {"capital"}),
        ("Capital of what?", set()),
        ("what is on port 8001?", {"8001"}),
        ("which year saw triremes", {"saw", "trirem"}),
        ("", set()),
    ],
)
def test_rare_words_name_what_is_asked_for(question, rare):
    assert MODEL.rare_words(question) == rare


def test_scripts_without_spaces_are_compared_by_pairs_of_letters():
    passage = hit("a", "\u6e2f\u53e3\u5728\u591c\u95f4\u5173\u95ed")
    assert MODEL.count_missing("\u591c\u95f4\u5173\u95ed", passage) == 0
    assert MODEL.count_missing("\u591c\u95f4\u5f00", passage) == 1


def test_an_accent_is_the_same_as_one_character_or_as_two():
    assert MODEL.count_missing("where are the cafe\u0301s", hit("a", "The caf\u00e9s are")) == 0
    assert MODEL.count_missing("where are the caf\u00e9s", hit("a", "The cafe\u0301s are")) == 0


def test_missing_words_are_counted_up_to_three():
    passage = hit("a", "Triremes\nThe oars of a trireme are long.", metadata='{"title": "Triremes"}')
    assert MODEL.count_missing("What port has a trireme?", passage) == 0
    assert MODEL.count_missing("How long are oars of galleys?", passage) == 1
    assert MODEL.count_missing("Zanzibar Quito Lima Oslo Bonn", passage) == 3


def test_a_file_is_read_as_it_was_written(tmp_path):
    (tmp_path / "relevance.toml").write_text(TOML)
    assert read_relevance(tmp_path / "relevance.toml") == MODEL


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bias = -4", "", "bias must be a number, got None"),
        ("bias = -4", "bias = true", "bias must be a number, got True"),
        ("bias = -4", "bias = nan", "bias must be a number, got nan"),
        ("bias = -4", "base = 1", "unknown key 'base'"),
        ("common_words", "words", "unknown key 'words'"),
        ("bias = -4", "bias =", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, old, new, said):
    path = tmp_path / "relevance.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(SettingError, match=said):
        read_relevance(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"relevance\.toml does not exist"):
        read_relevance(tmp_path / "relevance.toml")
