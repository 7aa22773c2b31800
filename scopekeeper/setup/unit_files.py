"""Reads the files of services where a manager looks for them; asks no manager."""

import os
from collections.abc import Iterable, Mapping

from scopekeeper import regular_files
from scopekeeper.install import shipped

_SERVICE = ".service"
_FALSE = ("", "no", "n", "false", "f", "off", "0")


def services(folders: Iterable[str]) -> dict[str, str]:
    """Return the text of each service, with its drop-ins after it, by its name.

    The first folder with a service has it. Templates have no text of their own, and are skipped.
    """
    known = _existing(folders)
    found: dict[str, str] = {}
    for folder, names in known.items():
        for name in names:
            if name.endswith(_SERVICE) and "@" not in name and name not in found:
                found[name] = _read(f"{folder}/{name}")
    for folder, names in reversed([*known.items()]):
        for name in names:
            unit = name.removesuffix(".d")
            if unit in found and unit != name:
                found[unit] += "".join(_read(path) for path in _drop_ins(f"{folder}/{name}"))
    return found


def value(text: str, key: str) -> str:
    """Return the last value of a key in the text of a unit; '' if it has none. Pure."""
    lines = (line.partition("=") for line in text.splitlines())
    return next((each for name, _, each in reversed([*lines]) if name.strip() == key), "").strip()


def delegates(text: str) -> bool:
    """Return whether the text of a unit sets ``Delegate=``, also to a list of controllers. Pure."""
    return value(text, "Delegate").lower() not in _FALSE


def _existing(folders: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the names in each folder; in one that two paths lead to, once."""
    found: dict[str, list[str]] = {}
    seen = set()
    for folder in folders:
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            found[folder] = sorted(os.listdir(folder))
        except OSError:
            continue
    return found


def _drop_ins(folder: str) -> list[str]:
    """Return the drop-ins in a folder, but for ours."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [f"{folder}/{each}" for each in names
            if each.endswith(".conf") and each != shipped.DROP_IN]  # fmt: skip


def _read(path: str) -> str:
    try:
        return regular_files.read(path, follow=True).decode(errors="replace") + "\n"
    except OSError:
        return ""
