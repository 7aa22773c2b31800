"""Whose rules hold: root's and this user's own, for commands and for the keeper alike."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    ROOT,
    Scopekeeper,
    environment_of,
    eventually,
    is_alive,
    record_of,
    scope_directory,
)

from .installed import UNIT, Installed
from .manager import Units, main_pid, state, systemctl, uid_of

pytestmark = pytest.mark.systemd

ELSEWHERE = """
[lanes.default]
ttl = "1h"
orphans = "report"
session_grace = "0s"
"""
"""Of another's: scopes of its own accord have a time, what lost its owner is not ended."""


@pytest.fixture
def rules_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have HOME name a folder with rules, as ``sudo -E`` has it name another user's."""
    folder = tmp_path / "home/.config/scopekeeper"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(ELSEWHERE)
    if ROOT:
        subprocess.run(["chown", "-R", "lab", str(tmp_path / "home")], check=True)
        tmp_path.parent.chmod(0o711)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("SCOPEKEEPER_CONFIG", raising=False)
    return folder


def orphan(keeper: Scopekeeper, session: str, *options: str) -> subprocess.Popen[bytes]:
    """Start a member whose owner then ends."""
    owner = keeper.popen([*FOREVER])
    member = keeper.member("-s", session, "--owner", str(owner.pid), *options, "--", *FOREVER)
    owner.kill()
    owner.wait()
    return member


def test_rules_where_home_says_hold_neither_for_commands_nor_for_the_keeper_that_they_start(
    keeper: Scopekeeper, session: str, units: Units, rules_elsewhere: Path
) -> None:
    assert str(rules_elsewhere) not in keeper.call("policy", "show").stdout
    units.adopt(UNIT)
    run = keeper.call("exec", "-d", "-s", session, "--", *FOREVER)
    assert run.returncode == 0, run.stderr
    eventually(lambda: state(UNIT) == "active")
    assert environment_of(main_pid(UNIT)).get("HOME") != str(rules_elsewhere.parents[1])
    lost = orphan(keeper, f"{session}:orphan")
    assert lost.wait(60) != 0, "the keeper took the rules of HOME, which report only"
    member = keeper.member("-s", f"{session}:other", "--", *FOREVER)
    assert "TTL" not in record_of(scope_directory(f"{session}:other"))
    assert is_alive(member.pid)


def test_a_folder_that_is_named_and_not_ones_own_is_ignored_and_said_once(
    keeper: Scopekeeper,
    session: str,
    rules_elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not ROOT:
        rules_elsewhere.chmod(0o777)
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(rules_elsewhere))
    why = f"it belongs to uid {uid_of('lab')}" if ROOT else "others can write to it"
    orphan(keeper, session)
    for arguments in (("policy", "show"), ("reconcile",)):
        done = keeper.call(*arguments)
        assert done.returncode == 0
        (told,) = done.stderr.splitlines()
        assert f"{rules_elsewhere} is ignored: {why}" in told
    assert not scope_directory(session), "the rules that are not ours kept it"


@pytest.fixture
def own_rules() -> Iterator[Path]:
    """Give the file of this user's own rules, where every program looks."""
    path = Path(pwd.getpwuid(os.getuid()).pw_dir, ".config/scopekeeper/config.toml")
    made = next((each for each in (*reversed(path.parents),) if not each.exists()), None)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not path.exists()
    yield path
    path.unlink(missing_ok=True)
    if made is not None:
        subprocess.run(["rm", "-rf", str(made)], check=True)


def test_ones_own_rules_hold_for_the_installed_keeper_too(
    keeper: Scopekeeper, session: str, installed: Installed, own_rules: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", "")
    monkeypatch.setenv("HOME", "/nonexistent")
    installed.write(HOME="")
    own_rules.write_text('[lanes.default]\nsession_grace = "0s"\n')
    first = orphan(keeper, session, "--lifetime", "session")
    assert first.wait(60) != 0, "the keeper kept it for a day, as is built in"
    eventually(lambda: installed.ends(session) == [("sleep", "owner gone")])
    assert str(own_rules) in keeper.call("policy", "show").stdout
    assert systemctl("stop", UNIT).returncode == 0
