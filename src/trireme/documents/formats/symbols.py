"""Signs of the fonts Symbol and Wingdings, which Word writes as a font and a number."""

from __future__ import annotations

# Where Word puts the codes of such fonts.
PRIVATE = 0xF000
# fmt: off
_WINGDINGS = {
    0x22: "✂", 0x28: "☎", 0x2A: "✉", 0x36: "⌛", 0x37: "⌨", 0x3F: "✍", 0x41: "✌", 0x43: "👍", 0x44: "👎", 0x45: "☜",
    0x46: "☞", 0x47: "☝", 0x48: "☟", 0x4A: "☺", 0x4B: "😐", 0x4C: "☹", 0x4E: "☠", 0x54: "❄", 0x6C: "●", 0x6E: "■",
    0x6F: "□", 0x71: "❑", 0x73: "⬧", 0x74: "⧫", 0x75: "◆", 0x76: "❖", 0x77: "⬥", 0x9F: "•", 0xA1: "○", 0xA7: "▪",
    0xA8: "◻", 0xAB: "★", 0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xEF: "⇦", 0xF0: "⇨",
    0xF1: "⇧", 0xF2: "⇩", 0xF3: "⬄", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}
# fmt: on


def symbol(font: str, code: str) -> str:
    """The sign of a hexadecimal `code` in `font`; "" for one that has no letter outside its font."""
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    private = number - PRIVATE if PRIVATE <= number < PRIVATE + 256 else number
    if font.lower() == "symbol":
        from pypdf._codecs import charset_encoding

        table = charset_encoding["/Symbol"]
        found = str(table[private]) if private < len(table) else ""
        return "" if found == "\x00" else found
    if font.lower() == "wingdings":
        return _WINGDINGS.get(private, "")
    is_letter = 0x20 <= number < 0x110000 and not 0xD800 <= number < 0xF900
    return chr(number) if is_letter else ""
