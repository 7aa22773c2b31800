"""The blocks of the how-to pages, for the tests that follow them to the letter."""

import os
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


def here(text: str) -> str:
    """Return commands or a unit as this user has to write them: root has no manager of a user."""
    if os.geteuid() != 0:
        return text
    text = text.replace("systemctl --user ", "systemctl ").replace("--user-unit", "--unit")
    return text.replace("~/.config/systemd/user", "/etc/systemd/system")


def transcript(text: str) -> list[tuple[str, str]]:
    """Return the commands of a session in a shell, each with what it is shown to print."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(command, printed) for command, _, printed in (each.partition("\n") for each in parts)]
