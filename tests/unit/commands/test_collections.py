"""`trireme set-language` over the languages port."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import trireme.commands.collections as module
import trireme.storage
from trireme.errors import InvalidInputError, NotFoundError
from trireme.indexing import _agree_on_language
from trireme.retrieve.languages import CollectionLanguage, Reread
from trireme.settings import Settings


class Languages:
    """Two passages of one collection, of which one is to be written."""

    def __init__(self) -> None:
        self.held = {("default", "c"): CollectionLanguage("", "en")}

    def find(self, tenant, collection):
        return self.held.get((tenant, collection))

    def set(self, tenant, collection, language):
        self.held[tenant, collection] = CollectionLanguage(language, "en")

    def reread(self, tenant, collection, tell, after=0, limit=1):
        return Reread(1, after, after + 1) if after < 2 else Reread(0, 0, after)

    def close(self):
        pass


@pytest.fixture
def languages(monkeypatch):
    found = Languages()
    monkeypatch.setattr(trireme.storage, "open_languages", lambda url: found)
    return found


def set_language(name, language, console):
    settings = Settings(database_url="postgresql://nobody@localhost/none")
    return module._set_language(SimpleNamespace(name=name, language=language), settings, console)


def test_all_passages_are_read_anew_by_the_language_that_is_set(languages):
    said = []
    console = SimpleNamespace(print=lambda text, **_: said.append(text))
    assert set_language("c", "German", console) == 0
    assert languages.held["default", "c"].language == "de"
    assert said == ["Collection 'c' has the language de: 1 of 2 passages were read anew."]
    with pytest.raises(NotFoundError, match="no collection 'none'"):
        set_language("none", "de", console)
    with pytest.raises(InvalidInputError, match="'klingon' is not known"):
        set_language("c", "klingon", console)


def test_a_new_collection_gets_the_language_and_one_that_is_there_must_have_it(languages):
    settings = replace(Settings(), collection="new")
    _agree_on_language(languages, settings, "")
    assert languages.find("default", "new") is None
    _agree_on_language(languages, settings, "de")
    _agree_on_language(languages, settings, "de")
    with pytest.raises(
        InvalidInputError, match="has the language de, not fr: change it with trireme set-language"
    ):
        _agree_on_language(languages, settings, "fr")
    # Nobody has said one: it is read as English.
    _agree_on_language(languages, replace(settings, collection="c"), "en")
    assert languages.find("default", "c").language == ""
    with pytest.raises(InvalidInputError, match="'c' has the language en, not de"):
        _agree_on_language(languages, replace(settings, collection="c"), "de")
