"""What may stand in a path for an id: every sign, slashes and line breaks too."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor


class _Rest(PathConvertor):
    # Starlette's own ends before a line break that comes last: "a" would be found, and deleted, for "a\n".
    regex = "(?s:.*)"


register_url_convertor("rest", _Rest())
# In a route: an id with whatever follows it.
ID = "{id:rest}"
