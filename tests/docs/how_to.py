"""The blocks of the how-to pages, for the tests that follow them to the letter."""

import re

from tests.docs.blocks import ROOT, blocks


def section(page: str, title: str) -> str:
    """Return what is below a heading of a page, up to the next heading of any level."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = re.split(r"^#+ ", text, flags=re.MULTILINE)
    (found,) = (part for part in parts if part.startswith(title))
    return found


def block(page: str, title: str, language: str) -> str:
    """Return the one block of a language below a heading of a page."""
    (found,) = blocks(section(page, title), language)
    return found
