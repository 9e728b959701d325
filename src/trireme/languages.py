"""The languages that texts are read in: their codes and names, and whether they write Latin letters."""

from __future__ import annotations

from dataclasses import dataclass

from trireme.errors import InvalidInputError

# A collection's language where each document has its own.
AUTO = "auto"
ENGLISH = "en"
# The name of a passage's language in its metadata. What a document brings under it wins.
LANGUAGE = "language"


@dataclass(frozen=True, slots=True)
class Language:
    """A language by its ISO 639-1 code. is_latin: its own words are of Latin letters."""

    code: str
    name: str
    is_latin: bool = True


def _table(text: str, is_latin: bool) -> list[Language]:
    pairs = (entry.split(":") for entry in text.split())
    return [Language(code, name, is_latin) for code, name in pairs]


LANGUAGES = {
    language.code: language
    for language in _table(
        "af:afrikaans az:azerbaijani bs:bosnian ca:catalan cs:czech cy:welsh da:danish de:german en:english"
        " eo:esperanto es:spanish et:estonian eu:basque fi:finnish fr:french ga:irish gl:galician hr:croatian"
        " hu:hungarian id:indonesian is:icelandic it:italian la:latin lt:lithuanian lv:latvian ms:malay mt:maltese"
        " nl:dutch no:norwegian pl:polish pt:portuguese ro:romanian sk:slovak sl:slovenian sq:albanian sv:swedish"
        " sw:swahili tl:tagalog tr:turkish uz:uzbek vi:vietnamese",
        is_latin=True,
    )
    + _table(
        "am:amharic ar:arabic be:belarusian bg:bulgarian bn:bengali el:greek fa:persian gu:gujarati he:hebrew"
        " hi:hindi hy:armenian ja:japanese ka:georgian kk:kazakh km:khmer kn:kannada ko:korean lo:lao"
        " mk:macedonian ml:malayalam mn:mongolian mr:marathi my:burmese ne:nepali pa:punjabi ps:pashto ru:russian"
        " si:sinhala sr:serbian ta:tamil te:telugu th:thai uk:ukrainian ur:urdu yi:yiddish zh:chinese",
        is_latin=False,
    )
}
_BY_NAME = {language.name: language.code for language in LANGUAGES.values()}
# Other codes of the same, as BCP 47 and language detectors have them.
_OTHER_CODES = {
    "nb": "no",
    "nn": "no",
    "iw": "he",
    "in": "id",
    "arz": "ar",
    "cmn": "zh",
    "yue": "zh",
    "fil": "tl",
}


def find_language(text: str) -> str:
    """The code of a language by its code, BCP 47 tag (pt-BR) or English name; "" for what is none of ours."""
    wanted = text.strip().lower().replace("_", "-")
    wanted = _BY_NAME.get(wanted, wanted.split("-", 1)[0])
    wanted = _OTHER_CODES.get(wanted, wanted)
    return wanted if wanted in LANGUAGES else ""


def read_language(text: str) -> str:
    """The code of a collection's language, or AUTO. Raises InvalidInputError for what is none of ours."""
    if text.strip().lower() == AUTO:
        return AUTO
    if code := find_language(text):
        return code
    known = ", ".join(sorted(LANGUAGES))
    raise InvalidInputError(
        f"language {text[:40]!r} is not known; give {AUTO}, an English name, or one of {known}", LANGUAGE
    )
