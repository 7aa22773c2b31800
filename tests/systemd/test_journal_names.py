"""What a person reads in the journal is short; the fields have every name in full."""

import json
import os
import subprocess
import uuid

import pytest

from tests.machine import FOREVER, ROOT, Scopekeeper, directory_of, eventually

from .guard import UNIT, Keeper

pytestmark = pytest.mark.systemd

SCOPE = [] if ROOT else ["--user"]


@pytest.fixture
def long(session: str) -> str:
    """Name a session as long as real ones are."""
    return f"agent:main:subagent:{uuid.uuid4()}:{session}"


def is_short(session: str) -> bool:
    """Return whether a long session's name is in its short form."""
    return session.startswith("agent:main:subagent:") and "…" in session and len(session) <= 40


def entries(*matches: str) -> list[dict[str, str]]:
    """Return the entries of the journal with these fields."""
    done = subprocess.run(
        ["journalctl", "--output=json", "--all", "--no-pager", *matches],
        capture_output=True, text=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_ends_have_short_sentences_and_whole_fields(keeper: Scopekeeper, long: str) -> None:
    process = keeper.member("-s", long, "-n", "time", "--", *FOREVER)
    unit, leaf = directory_of(process.pid).split("/")[-2:]
    keeper.call("stop", "-s", long, "--note", "enough")
    (entry,) = eventually(lambda: entries(f"SCOPEKEEPER_SESSION={long}"))
    name = entry["MESSAGE"].partition(" of ")[2].partition(" ended: ")[0]
    assert is_short(name)
    assert entry["MESSAGE"].endswith(": enough")
    assert entry["SCOPEKEEPER_TEXT"] == entry["MESSAGE"].replace(name, long)
    assert (entry["SCOPEKEEPER_SCOPE"], entry["SCOPEKEEPER_MEMBER"]) == (unit, leaf)


def test_warnings_of_the_keeper_do_too(guard: Keeper, keeper: Scopekeeper, long: str) -> None:
    guard.start()
    run = keeper.call("exec", "-d", "-s", long, "--timeout", "4s", "--", *FOREVER).stdout.strip()
    (entry,) = eventually(lambda: entries(f"SCOPEKEEPER_RUN={run}", "PRIORITY=4"))
    assert entry["MESSAGE"].startswith(f"{run} (sleep of agent:main:subagent:")
    assert "will be ended in" in entry["MESSAGE"]
    assert long not in entry["MESSAGE"]
    assert long in entry["SCOPEKEEPER_TEXT"]
    assert (entry["SCOPEKEEPER_SESSION"], entry["SCOPEKEEPER_MEMBER"]) == (long, "sleep")
    assert entry["_SYSTEMD_UNIT" if ROOT else "_SYSTEMD_USER_UNIT"] == UNIT
    assert entry["_COMM"] != "systemd"


def test_the_description_of_a_scope_is_short(keeper: Scopekeeper, long: str) -> None:
    process = keeper.member("-s", long, "--", *FOREVER)
    unit = os.path.basename(os.path.dirname(directory_of(process.pid)))
    shown = ["systemctl", *SCOPE, "show", "--property=Description", "--value", "--", unit]
    text = subprocess.run(shown, capture_output=True, text=True).stdout.strip()
    session = text.removeprefix("scopekeeper: ").removesuffix(", lane main")
    assert is_short(session)
