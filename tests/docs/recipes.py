"""The recipes of docs/recipes.md, for the tests that follow them to the letter."""

import re

from tests.docs.blocks import ROOT, blocks

_PAGE = ROOT / "docs" / "recipes.md"


def recipe(title: str, language: str) -> str:
    """Return the one block of a language below a heading."""
    sections = re.split(r"^##+ ", _PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = (text for text in sections if text.startswith(title))
    (block,) = blocks(section, language)
    return block
