"""What stands in fences in a page, and whether what a command prints is what the page shows."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDS_MCP = "scopekeeper.mcp"
"""In a Python block that needs the MCP SDK."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


def fenced(text: str) -> Iterator[tuple[str, str]]:
    """Yield the language of each fenced block, '' for none, and what is in it."""
    lines: list[str] | None = None
    for line in text.splitlines(keepends=True):
        if not line.startswith("```"):
            if lines is not None:
                lines.append(line)
        elif lines is None:
            lines, language = [], line[3:].strip()
        else:
            yield language, "".join(lines)
            lines = None


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, '' for those without one."""
    return [block for kind, block in fenced(text) if kind == language]


def shown(text: str) -> list[tuple[str, str]]:
    """Return the commands of the console blocks, each with what it is shown to print."""
    found = re.split(r"^\$ ", "".join(blocks(text, "console")), flags=re.MULTILINE)[1:]
    return [(command, printed) for command, _, printed in (each.partition("\n") for each in found)]


def is_as_shown(printed: str, expected: str) -> bool:
    """Tell whether something was printed as a page has it; nothing expected is anything.

    ``…`` stands for anything, alone in a line for any lines; columns may have other widths.
    """
    if not expected.strip():
        return True
    pattern, space = "", r"[ \t]"
    for line in expected.splitlines():
        words = [re.escape(word).replace("…", ".*?") for word in line.split()]
        columns = f"{space}*{f'{space}+'.join(words)}{space}*\n"
        pattern += "(?s:.*)" if words == [".*?"] else columns
    return re.fullmatch(pattern, printed) is not None
