"""Builds HTML in which no text can become markup. Pure.

Every text goes through ``text``: names, commands and evidence are what other processes chose.
"""

import base64
import hashlib
import html
import json
from typing import Any

from scopekeeper.safe_text import safe

_VOID = frozenset(("input", "meta"))
_FOR_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | int
"""Markup stays as it is, everything else is escaped."""


def text(value: Content) -> Markup:
    """Return a text as HTML: characters that control a terminal or the direction are escaped."""
    return value if isinstance(value, Markup) else Markup(html.escape(safe(str(value))))


def join(parts: "list[Markup] | tuple[Markup, ...]") -> Markup:
    """Return HTML one after another."""
    return Markup("".join(parts))


def tag(name: str, /, *children: Content, **attributes: "Content | bool | None") -> Markup:
    """Return an element.

    An attribute ``class_`` is ``class``, ``data_x`` is ``data-x``; True is one without a value,
    False and None are none.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        written = key.rstrip("_").replace("_", "-")
        words.append(written if value is True else f'{written}="{text(value)}"')
    inside = "" if name in _VOID else f"{''.join(map(text, children))}</{name}>"
    return Markup(f"<{' '.join(words)}>{inside}")


def data(value: Any, name: str) -> Markup:  # noqa: ANN401  any JSON value
    """Return a value for scripts, as an element with this id; nothing in it can end the element."""
    plain = json.dumps(value, separators=(",", ":"))
    for char, escaped in _FOR_SCRIPTS.items():
        plain = plain.replace(char, escaped)
    return Markup(f'<script type="application/json" id="{name}">{plain}</script>')


def source_of(content: str) -> str:
    """Return the source expression of a script or a style sheet for a content security policy."""
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
