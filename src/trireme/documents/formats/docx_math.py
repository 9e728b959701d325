"""Equations of DOCX (m:oMath) on one line, as UnicodeMath writes them: (a+b)/c, x^2, v_max, √(x), ∑_(i=1)^n i."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from trireme.documents.formats.ooxml import attribute, child, name_of

# A name or a number needs no brackets.
ATOM = re.compile(r"[\w.,]*")
# 𝑣 is v: letters of mathematical styles.
STYLED = re.compile("[\U0001d400-\U0001d7ff\u2100-\u2138]+")
ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}
UNSEEN = frozenset(("w:del", "w:moveFrom", "w:rPr", "w:instrText", "w:delText"))


def linear(element: Any) -> str:
    """The equation's text; what it was before a deletion is left out."""
    name = name_of(element.tag)
    if name == "m:t":
        return STYLED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), element.text or "")
    if name in UNSEEN or name.endswith("Pr"):
        return ""
    if name in {"w:br", "w:tab"}:
        return " "
    write = _WRITERS.get(name)
    return write(element) if write else "".join(map(linear, element))


def _part(element: Any, name: str) -> str:
    found = child(element, f"m:{name}")
    return "" if found is None else linear(found).strip()


def _group(text: str) -> str:
    return text if ATOM.fullmatch(text) or _is_bracketed(text) else f"({text})"


def _is_bracketed(text: str) -> bool:
    """Whether the first bracket closes at the end."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth <= 0:
            return place == len(text) - 1 and place > 0
    return False


def _property(element: Any, kind: str, name: str, default: str) -> str:
    found = child(element, f"m:{kind}Pr", f"m:{name}")
    return default if found is None else attribute(found, "m:val")


def _fraction(element: Any) -> str:
    sign = "¦" if _property(element, "f", "type", "bar") == "noBar" else "/"
    return f"{_group(_part(element, 'num'))}{sign}{_group(_part(element, 'den'))}"


def _script(element: Any) -> str:
    low, high = _part(element, "sub"), _part(element, "sup")
    text = _group(_part(element, "e"))
    return text + (f"_{_group(low)}" if low else "") + (f"^{_group(high)}" if high else "")


def _script_before(element: Any) -> str:
    return f"_{_group(_part(element, 'sub'))}^{_group(_part(element, 'sup'))} {_group(_part(element, 'e'))}"


def _root(element: Any) -> str:
    degree = _part(element, "deg")
    return ROOTS.get(degree, f"{_group(degree)}√") + _group(_part(element, "e"))


def _nary(element: Any) -> str:
    low, high = _part(element, "sub"), _part(element, "sup")
    sign = _property(element, "nary", "chr", "∫") + (f"_{_group(low)}" if low else "")
    return f"{sign}{f'^{_group(high)}' if high else ''} {_part(element, 'e')}"


def _brackets(element: Any) -> str:
    first, last = _property(element, "d", "begChr", "("), _property(element, "d", "endChr", ")")
    between = _property(element, "d", "sepChr", "|")
    parts = [linear(one).strip() for one in element if name_of(one.tag) == "m:e"]
    return f"{first}{between.join(parts)}{last}"


def _function(element: Any) -> str:
    name, text = _part(element, "fName"), _part(element, "e")
    return f"{name}{text}" if text.startswith("(") else f"{name} {text}"


def _accent(element: Any) -> str:
    text = _part(element, "e")
    return text + _property(element, "acc", "chr", "\u0302") if len(text) == 1 else text


def _limit(sign: str) -> Callable[[Any], str]:
    return lambda element: f"{_part(element, 'e')}{sign}{_group(_part(element, 'lim'))}"


def _rows(separator: str) -> Callable[[Any], str]:
    def write(element: Any) -> str:
        parts = (linear(one).strip() for one in element if name_of(one.tag) in {"m:e", "m:mr"})
        return separator.join(part for part in parts if part)

    return write


def _phantom(element: Any) -> str:
    is_shown = _property(element, "phant", "show", "1") not in {"0", "off", "false"}
    return _part(element, "e") if is_shown else ""


_WRITERS: dict[str, Callable[[Any], str]] = {
    "m:f": _fraction,
    "m:sSup": _script,
    "m:sSub": _script,
    "m:sSubSup": _script,
    "m:sPre": _script_before,
    "m:rad": _root,
    "m:nary": _nary,
    "m:d": _brackets,
    "m:func": _function,
    "m:acc": _accent,
    "m:limLow": _limit("_"),
    "m:limUpp": _limit("^"),
    "m:m": _rows("; "),
    "m:mr": _rows(", "),
    "m:eqArr": _rows("; "),
    "m:phant": _phantom,
}
