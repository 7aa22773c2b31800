"""Two gateways of one user that use the same session keys: neither ends what is the other's."""

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    leaves,
    processes,
    record_of,
    rewrite_record,
    scope_directories,
)

from .manager import Units, main_pid, systemctl

pytestmark = pytest.mark.systemd

Gateway = Callable[..., int]


@pytest.fixture
def other(units: Units, keeper: Scopekeeper) -> Iterator[Gateway]:
    """Launch as another gateway does, which is a service; gives the member's pid."""

    def launch(*arguments: str) -> int:
        unit = f"other-gateway-{uuid.uuid4().hex[:8]}.service"
        before = members()
        script = f'{PROGRAM} run "$@" & exec sleep infinity'
        units.run(unit, command=("sh", "-c", script, "sh", *arguments, "--", *FOREVER))
        (pid,) = eventually(lambda: members() - before)
        assert record_of(directory_of(pid))["OWNER_UNIT"] == unit
        eventually(lambda: "JOINING" not in record_of(directory_of(pid)))
        return pid

    yield launch
    assert keeper


def members() -> set[int]:
    return {pid for scope in scope_directories() for pid in processes(scope)
            if record_of(directory_of(pid)).get("PID") == str(pid)}  # fmt: skip


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write the rules that launches and reconcile go by."""
    folder = tmp_path / "rules"
    folder.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(folder))
    return lambda text: (folder / "config.toml").write_text(text) and None


def test_replace_ends_only_members_of_the_same_gateway(
    keeper: Scopekeeper, other: Gateway, session: str
) -> None:
    words = ("-s", session, "-n", "server")
    theirs = other(*words)
    first = keeper.member(*words, "--replace", "--", *FOREVER)
    assert is_alive(theirs)
    second = keeper.member(*words, "--replace", "--", *FOREVER)
    assert first.wait(PATIENCE) == -signal.SIGTERM
    assert is_alive(theirs)
    assert second.poll() is None


def test_replace_ends_what_an_earlier_life_of_the_same_unit_left(
    keeper: Scopekeeper, session: str
) -> None:
    words = ("-s", session, "-n", "server", "--lifetime", "session")
    first = keeper.member(*words, "--", *FOREVER)
    rewrite_record(directory_of(first.pid), OWNER_EPOCH=uuid.uuid4().hex)
    keeper.member(*words, "--replace", "--", *FOREVER)
    assert first.wait(PATIENCE) == -signal.SIGTERM


def test_a_run_supersedes_only_runs_of_the_same_gateway(
    keeper: Scopekeeper, other: Gateway, session: str, rules: Callable[[str], None]
) -> None:
    rules("[lanes.cron]\nsupersede = true\n")
    words = ("-s", session, "-l", "cron", "--session-id")
    theirs = other(*words, "their-run")
    first = keeper.member(*words, "run-1", "--", *FOREVER)
    second = keeper.member(*words, "run-2", "--", *FOREVER)
    assert first.wait(PATIENCE) == -signal.SIGTERM
    assert is_alive(theirs)
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(theirs)
    assert second.poll() is None


def test_a_gateway_is_the_run_only_beside_another_gateways_scope(
    keeper: Scopekeeper, units: Units, session: str
) -> None:
    """What the second gateway's member launches in another lane, or to outlive it, has its own."""
    launch = f"{PROGRAM} run"
    more = (
        f"{launch} -n same {{}} & {launch} -l nested -n nested {{}} &"
        f"{launch} -l cron --session-id 1 -n cron {{}} &"
        f"{launch} --lifetime detached -n detached {{}} & exec sleep infinity"
    ).replace("{}", "sleep infinity")
    scripts = {
        "first": f"{launch} -s {session} -n first sleep infinity & exec sleep infinity",
        "second": f"{launch} -s {session} -n second -- sh -c '{more}' & exec sleep infinity",
    }
    names = {each: f"{each}-{session[-8:]}.service" for each in scripts}
    for each, script in scripts.items():
        units.run(names[each], command=("sh", "-c", script))
        eventually(lambda each=each: runs(session).get(each) is not None)
    found = eventually(lambda: there if len(there := runs(session)) == 6 else {})
    assert found == {
        "first": ("main", ""), "second": ("main", names["second"]),
        "same": ("main", names["second"]), "nested": ("nested", ""), "cron": ("cron", "1"),
        "detached": ("main", "detached"),
    }  # fmt: skip
    listed = json.loads(keeper.call("ls", "-s", session, "--json").stdout)["scopes"]
    assert {(each["lane"], each["run"] or "") for each in listed} == set(found.values())
    assert keeper.call("stop", "-s", session).returncode == 0


def runs(session: str) -> dict[str, tuple[str, str]]:
    """Return lane and run of the scope of each living member of a session, by its name."""
    found = {}
    for scope in scope_directories():
        record = record_of(scope)
        if record.get("SESSION") == session:
            for leaf in leaves(scope):
                name = record_of(f"{scope}/{leaf}").get("NAME")
                if name:
                    found[name] = (record["LANE"], record.get("RUN", ""))
    return found


def test_room_is_not_made_of_another_gateways_leftovers(
    keeper: Scopekeeper, other: Gateway, session: str, rules: Callable[[str], None]
) -> None:
    rules('[lanes.sub]\nmax_scopes = 1\nwhen_full = "stop-orphan"\norphan_grace = "infinity"\n')
    theirs = other("-s", session, "-l", "sub", "--lifetime", "session")
    unit = record_of(directory_of(theirs))["OWNER_UNIT"]
    assert systemctl("kill", "--signal=SIGKILL", unit).returncode == 0
    eventually(lambda: not main_pid(unit))
    refused = keeper.run("-s", f"{session}:2", "-l", "sub", "--", "true")
    assert refused.returncode == 125, refused.stderr
    assert is_alive(theirs)
    os.kill(theirs, signal.SIGKILL)
