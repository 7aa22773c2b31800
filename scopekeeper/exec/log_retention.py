"""Limits what all runs together take on the disk."""

import contextlib
import os
import pathlib
import shutil
from dataclasses import dataclass

from scopekeeper.exec import run as runs
from scopekeeper.exec.run import Run

MOST = 1 << 30
"""Bytes of all folders."""
ENDED_KEPT = 1000
_REMOVED = ".removed."
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Tidied:
    """What ``tidy`` did."""

    removed: tuple[str, ...] = ()
    """Ids of the removed runs."""
    problems: tuple[str, ...] = ()
    """What could not be removed, and why."""


def tidy(most: int = MOST, ended_keep: int = ENDED_KEPT) -> Tidied:
    """Remove ended runs, the oldest end first, until all take at most most bytes.

    At most ended_keep ended runs stay; runs that have not ended always stay. Raises StateError.
    """
    folder = runs.folder()
    problems = [problem for path in _left_over(folder) if (problem := _remove(path))]
    found = runs.load_all()
    ended = sorted((run for run in found if run.ended is not None), key=_end)
    taken = taken_by(folder)
    removed = []
    for at, run in enumerate(ended):
        if taken <= most and len(ended) - at <= ended_keep:
            break
        size = taken_by(run.folder)
        problem = remove(run)
        if problem:
            problems.append(problem)
        else:
            taken -= size
            removed.append(run.id)
    return Tidied(tuple(removed), tuple(problems))


def taken_by(folder: pathlib.Path) -> int:
    """Return the bytes that a folder takes on the disk; 0 if it does not exist."""
    total = 0
    with contextlib.suppress(OSError):
        total += folder.lstat().st_blocks * _BLOCK
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                is_folder = path.is_dir() and not path.is_symlink()
                total += taken_by(path) if is_folder else path.lstat().st_blocks * _BLOCK
    return total


def _end(run: Run) -> tuple[int, str]:
    return (run.ended.at if run.ended is not None else 0, run.id)


def _left_over(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the leftovers of an interrupted removal."""
    try:
        return [folder / name for name in os.listdir(folder) if name.startswith(_REMOVED)]
    except OSError:
        return []


def remove(run: Run) -> str:
    """Remove the folder of a run, atomically for readers; return what went wrong."""
    aside = run.folder.with_name(_REMOVED + run.id)
    try:
        run.folder.rename(aside)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot remove {run.folder}: {error.strerror}"
    return _remove(aside)


def _remove(path: pathlib.Path) -> str:
    """Remove a folder, maybe at the same time as another process; return what went wrong."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return _remove(path) if path.is_dir() else ""
    except OSError as error:
        return f"cannot remove {path}: {error.strerror}"
    return ""
