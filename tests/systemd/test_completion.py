"""What the Tab key offers is what is there."""

import shlex
import subprocess

import pytest

from scopekeeper.cli.bash import Bash
from scopekeeper.cli.main import COMPLETE, group
from tests.machine import FOREVER, PROGRAM, Scopekeeper

pytestmark = pytest.mark.systemd


def offered(line: str) -> list[str]:
    """Return what bash would offer at the end of a line."""
    script = (
        f"{Bash(group, {}, 'scopekeeper', COMPLETE).source()}\n"
        f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}\n"
        f'_scopekeeper_completion {PROGRAM}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


def test_names_of_what_runs_are_offered(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", f"{session}:a b", "-l", "nested:x:y", "-n", "one", "--", *FOREVER)
    first, _, rest = f"{session}:a b".partition(":")
    assert shlex.quote(f"{session}:a b") in offered("scopekeeper stop -s ")
    assert shlex.quote(rest) in offered(f"scopekeeper stop -s {first}:")
    assert shlex.quote(rest) in offered(f"scopekeeper stop --session={first}:")
    assert f"{session}:a b" in offered(f"scopekeeper stop -s '{first}")
    assert {"nested:x:y", "cron"} <= set(offered("scopekeeper policy show "))
    assert offered(f"scopekeeper ls -s {first} -l nested:x") == ["x:y"]
    assert "one" in offered("scopekeeper why on")
    assert any(
        session.rsplit(":", maxsplit=1)[-1] in unit
        for unit in offered("scopekeeper stop scopekeeper-")
    )
    assert offered("scopekeeper stop -s nobody-has-this") == [""]
