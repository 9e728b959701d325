"""docs/models.md, whose tables the tests write."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def put_table(text, name, lines):
    """`text` with the table of that name made of `lines`."""
    pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end -->)"
    assert re.search(pattern, text, flags=re.DOTALL), name
    return re.sub(pattern, lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text, flags=re.DOTALL)
