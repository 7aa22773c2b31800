"""Commands for ends without systemd: each in a cgroup of its own, bounded, and nothing stays."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests import folders
from tests.machine import cgroup_of, eventually, is_alive, text_of

from .container import Container

pytestmark = pytest.mark.systemd  # the lab's machine has the cgroup to delegate

PREFIX = "scopekeeper-event-"


def policy(text: str) -> None:
    rules = Path(os.environ["SCOPEKEEPER_CONFIG"])
    rules.mkdir(exist_ok=True)
    (rules / "config.toml").write_text(text)


def of_commands(container: Container) -> list[str]:
    """Return the cgroups of commands."""
    return [each for each in folders.below(container.folder) if f"/{PREFIX}" in each]


def crash(container: Container, session: str) -> None:
    """Have a run exit with status 7."""
    done = container.call("exec", "-d", "-s", session, "-n", "crasher", "--",
                          "sh", "-c", "sleep 0.2; exit 7")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_command_runs_beside_the_scopes_and_is_given_the_end(
    container: Container, session: str, tmp_path: Path
) -> None:
    written, left = tmp_path / "written", tmp_path / "left"
    policy(
        "[on_end.note]\nreasons = \"failed\"\nshell = true\ncommand = '''\n"
        f"setsid sleep 1000 & echo $! >{left}\n"
        f"(cat; echo $SCOPEKEEPER_EVENT_SESSION; cat /proc/self/cgroup; env) >{written}.new\n"
        f"mv {written}.new {written}\n"
        "'''\n"
    )
    crash(container, session)
    told, named, *rest = eventually(lambda: text_of(written)).splitlines()
    assert json.loads(told)["exit_status"] == 7
    assert json.loads(told)["session"] == named == session
    (path,) = [line.rpartition("::")[2] for line in rest if line.startswith("0::")]
    assert path.rpartition("/")[2].startswith(f"{PREFIX}note-")
    assert ".scope" not in path
    (keeper,) = container.keepers()
    assert not cgroup_of(keeper).endswith(path)
    names = {line.partition("=")[0] for line in rest}
    assert "SCOPEKEEPER_EVENT_REASON" in names
    assert not {"SCOPEKEEPER_SCOPE", "SCOPEKEEPER_MEMBER", "NOTIFY_SOCKET"} & names
    eventually(lambda: not of_commands(container))
    assert not is_alive(int(text_of(left)))


def test_one_that_takes_too_long_or_fails_is_ended_and_logged(
    container: Container, session: str, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    policy(
        f'[on_end.hangs]\ntimeout = "500ms"\nshell = true\n'
        f"command = 'trap \"\" TERM; echo $$ >{pids}; setsid sleep 1000 & echo stuck; wait'\n"
        '[on_end.fails]\nshell = true\ncommand = "echo why; exit 3"\n'
    )
    crash(container, session)

    def lines() -> list[str]:
        found = [line.partition("on_end.")[2] for line in container.log.splitlines()]
        return sorted(filter(None, found)) if len([*filter(None, found)]) > 1 else []

    said = "its command failed, and is not repeated"
    assert eventually(lines) == [
        f"fails: {said}: exit status 3: why",
        f"hangs: {said}: it did not end in 0.5s: stuck",
    ]
    eventually(lambda: not of_commands(container))
    assert not is_alive(int(text_of(pids)))


def test_what_a_killed_keeper_leaves_the_next_one_ends(
    container: Container, session: str, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    policy(f"[on_end.slow]\nshell = true\ncommand = 'echo $$ >{begun}; exec sleep 1000'\n")
    crash(container, session)
    pid = int(eventually(lambda: text_of(begun)))
    (keeper,) = container.keepers()
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not container.keepers())
    assert of_commands(container)
    policy("")
    crash(container, session)
    eventually(lambda: not of_commands(container))
    assert len(container.keepers()) == 1
    eventually(lambda: not Path(f"/proc/{pid}").exists() or not is_alive(pid))
