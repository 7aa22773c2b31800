"""``-H`` over real ssh: hosts that answer, one that is down, one slow, one without scopekeeper."""

import json
import os
import re
import signal
import subprocess

import pytest

from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    Scopekeeper,
    eventually,
    is_alive,
    scope_directory,
    text_of,
)

from .fleet import Fleet
from .ssh import IS_THERE
from .test_listing import on_terminal

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not IS_THERE, reason="there is no ssh, or no server for it"),
]


def rows(text: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in text.splitlines()]


def test_all_that_answer_are_one_table_and_each_other_host_is_a_line(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    hosts = [word for name in ("slow", "down", "one", "bare", "newer") for word in ("-H", name)]
    words = ("ls", *hosts, "--where", f"session={session}", "--columns", "host,session,procs")
    asking = keeper.popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually((fleet.folder / "waiting").exists)
    (fleet.folder / "go").touch()
    out, err = asking.communicate(timeout=PATIENCE)
    assert rows(out.decode()) == [
        ["HOST", "SESSION", "PROCS"], ["slow", session, "1"], ["one", session, "1"],
    ]  # fmt: skip
    down, bare, newer = err.decode().splitlines()
    causes = "Connection refused|Connection timed out|No route to host"
    assert re.fullmatch(f"scopekeeper: down: ssh: .*({causes})", down)
    assert bare == "scopekeeper: bare: scopekeeper is not in the PATH of ssh's commands"
    assert newer.startswith(
        "scopekeeper: newer: its answer has version 2, this scopekeeper reads 1"
    )
    assert asking.returncode == 1


def test_a_slow_host_does_not_hold_up_the_others(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    """The stop at the other host is over while the slow one has not even begun."""
    member = keeper.member("-s", session, "--", *FOREVER)
    words = ("stop", "-s", session, "-H", "slow", "-H", "one")
    asking = keeper.popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert member.wait(PATIENCE) == -signal.SIGTERM
    assert asking.poll() is None
    (fleet.folder / "go").touch()
    out, err = asking.communicate(timeout=PATIENCE)
    assert (asking.returncode, err) == (0, b"")
    slow, one = out.decode().splitlines()
    assert slow.startswith("slow: Nothing matched")
    assert re.fullmatch(r"one: scopekeeper-.*: gone after \d+ ms; 1 process terminated", one)


def test_every_command_answers_of_a_group(keeper: Scopekeeper, session: str, fleet: Fleet) -> None:
    owner = keeper.popen(list(FOREVER))
    member = keeper.member("-s", session, "-n", "it's a \\ server", "--owner", str(owner.pid), "--",
                           *FOREVER)  # fmt: skip
    done = keeper.call("ps", "-H", "@both", session, "--columns", "host,member,pid,command")
    assert rows(done.stdout)[1:] == [
        [host, "it's a \\ server", str(member.pid), "sleep infinity"] for host in ("one", "two")
    ]
    name = ("--name", "it's a \\ server")
    assert len(rows(keeper.call("ls", *name, "-H", "@both", "--no-headers").stdout)) == 2
    done = keeper.call("ports", "-H", "@both", "--port", "1")
    assert done.returncode == 4
    assert done.stderr == (
        "scopekeeper: one, two: nothing listens on port 1 in this network namespace\n"
    )
    lines = keeper.call("why", session, "-H", "@both").stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["one", "two"]
    here = keeper.call("why", session).stdout.splitlines()
    assert [line.partition(": ")[2].partition(", for ")[0] for line in lines] == [
        here[0].partition(", for ")[0]
    ] * 2
    stops = ("stop", session, "--dry-run")
    assert json.loads(keeper.call(*stops, "--json").stdout)["lines"] == (
        keeper.call(*stops).stdout.splitlines()
    )
    owner.kill()
    owner.wait()
    would = keeper.call("reconcile", "--dry-run", "-s", session, "-H", "@both", "--no-headers")
    assert [(row[0], row[5], row[6]) for row in rows(would.stdout)] == [
        (host, "orphan", "stop") for host in ("one", "two")
    ]
    assert is_alive(member.pid)
    done = keeper.call("reconcile", "-s", session, "-H", "one")
    assert rows(done.stdout)[1][6] == "terminated"
    assert member.wait(PATIENCE) == -signal.SIGTERM
    found = keeper.call("history", "-s", session, "-H", "@both", "--columns", "host,reason").stdout
    assert rows(found)[1:] == [[host, "owner gone"] for host in ("one", "two")]
    sums = keeper.call("history", "--by", "reason", "-H", "@both", "--columns", "host,ends").stdout
    assert rows(sums)[1:] == [["one", "1"], ["two", "1"]]
    done = keeper.call("doctor", "-H", "@both")
    assert done.returncode in (0, 1)
    assert [line for line in done.stdout.splitlines() if ": scopekeeper is usable" in line]
    document = json.loads(keeper.call("doctor", "-H", "one", "--json").stdout)
    assert {"check", "status", "detail", "fix"} <= document["hosts"][0]["answer"]["checks"][
        0
    ].keys()


def test_a_dry_run_changes_nothing_and_a_call_without_a_target_is_refused(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    done = keeper.call("stop", "-H", "@both", session, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.count("would end 1 process") == 2
    done = keeper.call("stop", "-H", "@both")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scopekeeper: one, two: no target given; name a run")
    assert done.stderr.count("\n") == 1
    assert is_alive(member.pid)
    done = keeper.call("ps", "-H", "newer")
    assert (done.returncode, done.stderr) == (
        2, "scopekeeper: newer: No such command 'ps'; see x\n",
    )  # fmt: skip


def test_what_cannot_be_ended_is_told_as_here(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    """What had left its scope lives on: the status of the host, and its lines."""
    script = "systemd-run {0} --scope -q -E SCOPEKEEPER_SCOPE=$SCOPEKEEPER_SCOPE sleep 1000 & wait"
    manager = "" if os.geteuid() == 0 else "--user"
    keeper.member("-s", session, "-n", "left", "--", "sh", "-c", script.format(manager))
    left = eventually(
        lambda: json.loads(keeper.call("ls", "--escaped", "--json").stdout)["escaped"]
    )
    done = keeper.call("stop", "-s", session, "-H", "one", "-H", "bare")
    assert f"one:   pid {left[0]['pid']} in " in done.stdout
    assert done.stderr == "scopekeeper: bare: scopekeeper is not in the PATH of ssh's commands\n"
    assert done.returncode == 1
    os.kill(left[0]["pid"], signal.SIGKILL)


def test_an_interrupted_stop_names_the_hosts_that_have_not_answered(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    words = ("stop", "-s", session, "-H", "slow", "-H", "one")
    asking = keeper.popen(
        [PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert member.wait(PATIENCE) == -signal.SIGTERM
    eventually((fleet.folder / "waiting").exists)
    eventually(lambda: not scope_directory(session))
    # the answer is read before the signal: nothing of what is known is lost
    eventually(lambda: len(children(asking.pid)) == 1)
    asking.send_signal(signal.SIGINT)
    out, err = asking.communicate(timeout=PATIENCE)
    assert asking.returncode == -signal.SIGINT
    assert out.decode().startswith("one: scopekeeper-")
    assert err.decode() == (
        "scopekeeper: interrupted: no answer yet from slow: what was begun there may go on; "
        "`scopekeeper ls -H slow` shows what runs\n"
    )


def children(pid: int) -> list[str]:
    return text_of(f"/proc/{pid}/task/{pid}/children").split()


def test_it_fits_a_terminal_of_80_columns(keeper: Scopekeeper, session: str, fleet: Fleet) -> None:
    for name in ("time", "git"):
        keeper.member("-s", session, "-n", name, "--", *FOREVER)
    # in another network namespace these warn that they do not see what listens here
    of_sockets = () if fleet.has_networks else ("ps", "ports")
    for command in ("ls", "ls --members", *of_sockets, "history", f"why {session}",
                    f"stop {session} --dry-run", "reconcile --dry-run"):  # fmt: skip
        lines = on_terminal(f"{command} -H @both")
        print("\n".join(["", f"$ scopekeeper {command} -H @both", *lines]))
        assert any(line.startswith("one") for line in lines) or command in ("ports", "history")


def test_a_connection_that_ssh_keeps_does_not_hold_the_answer(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    """With ControlPersist, the first call leaves a process of ssh behind."""
    keeper.member("-s", session, "--", *FOREVER)
    configuration = fleet.folder / "config"
    text = text_of(configuration)
    configuration.write_text(f"Host one\nControlMaster auto\nControlPersist 600\n{text}")
    server = fleet.servers[0]
    try:
        for _ in range(2):
            done = keeper.call("ls", session, "-H", "one", "--columns", "host", "--no-headers")
            assert (done.returncode, done.stdout) == (0, "one\n")
            assert server.master
    finally:
        subprocess.run(server.words("-O", "exit", "one"), capture_output=True, timeout=60)
