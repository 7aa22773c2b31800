"""A member whose command is ``scopekeeper run``: its process goes on as another member.

And what members launch by ``run`` without becoming it: a gateway that starts gateways.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import scopekeeper
from tests.machine import (
    FOREVER,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    is_populated,
    leaves,
    processes,
    record_of,
    rewrite_record,
    scope_directory,
    text_of,
)

from .bus import BUS, allowed, busctl
from .guard import Keeper

pytestmark = pytest.mark.systemd

NOTHING = "Nothing matched"


@pytest.fixture
def other(session: str) -> str:
    """Name another session."""
    return f"{session}:other"


def arrived(pid: int, name: str) -> None:
    """Wait until a process runs its command in the leaf of a member of this name."""
    eventually(lambda: f"/m-{name}." in cgroup_of(pid) and text_of(f"/proc/{pid}/comm") != "")
    eventually(lambda: "sleep" in text_of(f"/proc/{pid}/comm"))


def outer(
    keeper: Scopekeeper, session: str, other: str, *options: str, name: str = "outer"
) -> subprocess.Popen[bytes]:
    """Start a member that goes on as ``inner`` of another session.

    systemd removes the scope that it left a moment later, unless something else runs there.
    """
    inner = keeper.argv("-s", other, "-n", "inner", *options, "--", *FOREVER)
    process = keeper.start("-s", session, "-n", name, "--", *inner)
    arrived(process.pid, "inner")
    eventually(lambda: not (left := scope_directory(session)) or is_populated(left))
    return process


def leaf_of(pid: int) -> str:
    """Return the name of a process's leaf."""
    return os.path.basename(cgroup_of(pid))


def levels(keeper: Scopekeeper, *sessions: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a member in the first session that starts one in the next, and so on.

    Each is a shell that waits for the next one. Return the first, and the pids of all.
    """
    script = shlex.join(FOREVER)
    for number in range(len(sessions) - 1, 0, -1):
        argv = keeper.argv("-s", sessions[number], "-n", f"level{number}", "--", "sh", "-c", script)
        script = f"{shlex.join(argv)} & wait"
    first = keeper.start("-s", sessions[0], "-n", "level0", "--", "sh", "-c", script)

    def found() -> list[int]:
        pids = []
        for number, session in enumerate(sessions):
            directory = scope_directory(session)
            inside = [x for x in leaves(directory) if x.startswith(f"m-level{number}.")]
            record = record_of(f"{directory}/{inside[0]}") if inside else {}
            if "JOINING" in record or not record:
                return []
            pids.append(int(record["PID"]))
        return pids if f"/m-level{len(sessions) - 1}." in cgroup_of(pids[-1]) else []

    return first, eventually(found)


# What is printed


def test_ls_says_as_what_it_went_on(keeper: Scopekeeper, session: str, other: str) -> None:
    process = outer(keeper, session, other)
    (before,) = record_of(directory_of(process.pid))["LAUNCHED_IN"].split()
    leaf = before.rpartition("/")[2]
    came = f"went on from outer ({leaf} in {session}, lane main)"
    for arguments in (["--members"], ["-s", session], [session], ["-s", session, "--members"]):
        printed = keeper.call("ls", *arguments).stdout
        assert came in printed, arguments
        assert other in printed
    (found,) = keeper.scopes("-s", session)
    assert (found["session"], [each["name"] for each in found["members"]]) == (other, ["inner"])
    assert found["members"][0]["earlier"] == found["members"][0]["launched_in"] == [before]
    assert keeper.call("ls", f"{session}:nope").returncode == 4


def test_ls_says_it_of_the_empty_member_too(keeper: Scopekeeper, session: str) -> None:
    process = outer(keeper, session, session)
    printed = keeper.call("ls", "--members", "-s", session).stdout
    line = f"    outer  went on as inner ({leaf_of(process.pid)} in {session}, lane main)"
    assert line in printed.splitlines()
    members = {each["name"]: each for each in keeper.scopes("-s", session)[0]["members"]}
    assert members["outer"]["state"] == "continued"
    assert members["outer"]["continued_as"] == {
        "unit": os.path.basename(scope_directory(session)),
        "session": session,
        "lane": "main",
        "run": None,
        "member": "inner",
        "member_id": leaf_of(process.pid)[-8:],
    }
    assert (members["inner"]["state"], members["inner"]["continued_as"]) == ("running", None)


def test_why_and_the_history_say_so(keeper: Scopekeeper, session: str, other: str) -> None:
    process = outer(keeper, session, other)
    leaf = leaf_of(process.pid)
    as_inner = f"as inner ({leaf} in {other}, lane main)"
    for word in ("-s", session), (f"{session}/outer",):
        printed = keeper.call("why", *word).stdout
        assert re.search(rf"inner \({leaf} in \S+, lane main\) is running since", printed), word
        assert "; it went on from outer (m-outer." in printed
        assert f"outer (m-outer.{leaf_before(process.pid)} in {session}, lane main) went on " in (
            printed
        )
    assert f"went on {as_inner}, " in printed
    (end,) = history(keeper, session)
    assert (end["reason"], end["evidence"], end["seen"]) == ("continued", as_inner, True)
    keeper.call("stop", "-s", other, "--note", "enough")
    printed = keeper.call("why", "-s", session).stdout
    assert f"went on {as_inner}" in printed
    assert f"inner ({leaf} in {other}, lane main) was stopped by request" in printed


def leaf_before(pid: int) -> str:
    """Return the id of the member that a process was before."""
    return record_of(directory_of(pid))["LAUNCHED_IN"][-8:]


def history(keeper: Scopekeeper, session: str) -> list[dict[str, object]]:
    """Return the ends in a session."""
    return json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]


@pytest.mark.parametrize("same", [False, True], ids=["another scope", "the same scope"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_the_keeper_records_it_at_once(
    guard: Keeper, keeper: Scopekeeper, session: str, other: str, *, same: bool, beside: bool
) -> None:
    guard.start()
    if beside:
        keeper.member("-s", session, "-n", "beside", "--", *FOREVER)
    process = outer(keeper, session, session if same else other)
    (end,) = guard.ends(session)
    assert is_alive(process.pid)
    where = session if same else other
    assert (end["member"], end["reason"]) == ("outer", "continued")
    assert end["evidence"] == f"as inner ({leaf_of(process.pid)} in {where}, lane main)"
    process.kill()
    process.wait()
    eventually(lambda: [x for x in guard.history(where) if x["member"] == "inner"])
    assert [x["reason"] for x in guard.history(session) if x["member"] == "outer"] == ["continued"]


def test_a_run_goes_on_too(guard: Keeper, keeper: Scopekeeper, session: str, other: str) -> None:
    guard.start()
    inner = keeper.argv("-s", other, "-n", "inner", "--", "sh", "-c", "read x; exit 3")
    run = keeper.call("exec", "-d", "-s", session, "--", *inner).stdout.strip()
    eventually(lambda: guard.history(session))
    printed = keeper.call("ls", "-a", "-s", session).stdout
    assert re.search(rf"{run} .* continued ", printed)
    assert re.search(r"^    went on as inner \(m-inner\.\S+ in ", printed, re.MULTILINE)
    dry = keeper.call("stop", "--dry-run", run)
    assert dry.returncode == 0
    assert f"run {run})" in dry.stdout
    assert keeper.call("send", run, "x", "--enter").returncode == 0
    assert keeper.call("wait", run).returncode == 3
    printed = keeper.call("ls", "-a", "-s", session).stdout
    assert re.search(rf"{run} .* ended +3 ", printed)


# What is stopped


@pytest.mark.parametrize(
    "named",
    [
        lambda session, leaf: ["-s", session],
        lambda session, leaf: ["-s", session, "-n", "outer"],
        lambda session, leaf: [session],
        lambda session, leaf: [leaf],
        lambda session, leaf: [leaf[-8:]],
        lambda session, leaf: ["outer", "-s", session],
    ],
    ids=["session", "name", "word of the session", "leaf", "id", "word of the name"],
)
def test_a_stop_of_its_old_name_stops_it(
    keeper: Scopekeeper, session: str, other: str, named: Callable[[str, str], list[str]]
) -> None:
    process = outer(keeper, session, other)
    beside = keeper.member("-s", other, "-n", "beside", "--", *FOREVER)
    leaf = f"m-outer.{leaf_before(process.pid)}"
    line = "scopekeeper-[^ ]+: inner: {}\n  went on from outer \\(" + re.escape(
        f"{leaf} in {session}, lane main)"
    )
    dry = keeper.call("stop", "--dry-run", *named(session, leaf))
    which = f"\n    inner  pid {process.pid}  {' '.join(FOREVER)}"
    found = line.format("would end 1 process, with .*") + re.escape(which)
    assert re.fullmatch(found, dry.stdout.strip())
    assert (dry.returncode, is_alive(process.pid)) == (0, True)
    done = keeper.call("stop", *named(session, leaf))
    assert done.returncode == 0
    assert re.fullmatch(line.format("gone after .*; 1 process terminated"), done.stdout.strip())
    assert not is_alive(process.pid)
    assert is_alive(beside.pid)
    (end,) = history(keeper, other)
    assert (end["reason"], end["stopper"]["pid"]) == ("stopped by request", os.getpid())
    assert f"went on from outer ({leaf} in {session}" in end["evidence"]
    assert keeper.call("stop", *named(session, leaf), "--must-exist").returncode == 4


def test_a_run_is_the_old_name_of_what_went_on(
    keeper: Scopekeeper, session: str, other: str
) -> None:
    inner = keeper.argv("-s", other, "-n", "inner", "--", *FOREVER)
    process = keeper.start("-s", session, "--run", "r-77", "-n", "outer", "--", *inner)
    arrived(process.pid, "inner")
    assert keeper.call("stop", "r-77").returncode == 0
    assert not is_alive(process.pid)


def test_the_document_has_what_launched_it(keeper: Scopekeeper, session: str, other: str) -> None:
    process = outer(keeper, session, other)
    by = {
        "unit": f"scopekeeper-{session}-main.scope",
        "session": session,
        "lane": "main",
        "run": None,
        "member": "outer",
        "member_id": leaf_before(process.pid),
        "same_process": True,
    }
    for arguments in (["--dry-run"], []):
        done = keeper.call("stop", "-s", session, "--json", *arguments)
        (stopped,) = json.loads(done.stdout)["stopped"]
        assert (stopped["member"], stopped["launched_by"]) == ("inner", by)
    keeper.member("-s", session, "-n", "plain", "--", *FOREVER)
    (stopped,) = json.loads(keeper.call("stop", "-s", session, "--json").stdout)["stopped"]
    assert stopped["launched_by"] is None


def test_what_was_started_to_outlive_it_stays(
    keeper: Scopekeeper, session: str, other: str
) -> None:
    process = outer(keeper, session, other, "--lifetime", "detached")
    leaf = leaf_of(process.pid)
    text = f"which was started to outlive it; end it: scopekeeper stop {leaf}"
    for arguments, status in (
        (["-s", session], 0),
        ([session], 4),
        (["-s", session, "--must-exist"], 4),
        (["--dry-run", "-s", session], 0),
    ):
        done = keeper.call("stop", *arguments)
        assert (done.returncode, done.stderr) == (status, "")
        assert text in done.stdout
    assert is_alive(process.pid)
    assert keeper.call("stop", leaf).returncode == 0
    assert not is_alive(process.pid)


def test_nothing_without_the_proof_of_a_record_is_stopped(
    keeper: Scopekeeper, session: str, other: str
) -> None:
    """Its environment, its name and its parents prove nothing."""
    process = outer(keeper, session, other)
    rewrite_record(directory_of(process.pid), LAUNCHED_IN="", CONTINUES="")
    done = keeper.call("stop", "-s", session)
    assert (done.returncode, done.stdout[:15]) == (0, NOTHING)
    assert is_alive(process.pid)


def test_what_has_another_owner_by_now_stays(keeper: Scopekeeper, session: str, other: str) -> None:
    first, owner = keeper.popen([*FOREVER]), keeper.popen([*FOREVER])
    process = outer(keeper, session, other, f"--owner={first.pid}")
    done = keeper.call("adopt", "-s", other, "--force", f"--owner={owner.pid}")
    assert done.returncode == 0, done.stderr
    keeper.call("stop", "-s", session)
    assert is_alive(process.pid)


@pytest.mark.parametrize("narrow", ["--mine", "--owner=x.service", "--started-before=@9999999999"])
def test_a_choice_by_more_than_names_stops_nothing_else(
    keeper: Scopekeeper, session: str, other: str, narrow: str
) -> None:
    process = outer(keeper, session, other)
    assert NOTHING in keeper.call("stop", "-s", session, narrow).stdout
    assert is_alive(process.pid)


def test_one_name_of_several_is_refused(keeper: Scopekeeper, session: str, other: str) -> None:
    name = f"outer-{session[-8:]}"
    first = outer(keeper, session, other, name=name)
    second = keeper.member("-s", f"{session}:2", "-n", name, "--", *FOREVER)
    done = keeper.call("stop", name)
    assert done.returncode == 2
    assert f"2 members are called {name}: " in done.stderr
    for each in (f"{leaf_of(second.pid)} in {session}:2", f"{leaf_before(first.pid)} in {session}"):
        assert each in done.stderr
    assert is_alive(first.pid)
    assert is_alive(second.pid)
    assert keeper.call("stop", "-n", name).returncode == 0
    assert not is_alive(first.pid)
    assert not is_alive(second.pid)


# A gateway that starts gateways


def test_a_session_ends_with_all_that_it_launched(keeper: Scopekeeper, session: str) -> None:
    sessions = [f"{session}:{number}" for number in range(3)]
    _, pids = levels(keeper, *sessions)
    listed = keeper.call("ls", "-s", sessions[0]).stdout
    assert [each in listed for each in sessions] == [True] * 3
    assert "    launched by level0 (m-level0." in listed
    dry = keeper.call("stop", "--dry-run", "-s", sessions[0]).stdout
    assert dry.count("would end") == 3
    done = keeper.call("stop", "-s", sessions[0])
    assert done.returncode == 0
    assert [is_alive(pid) for pid in pids] == [False] * 3
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"scopekeeper-\S+:0-main.scope: gone after .*", lines[0])
    assert lines[2].startswith("  launched by level0 (m-level0.")


def test_the_middle_one_ends_with_what_is_below_it(keeper: Scopekeeper, session: str) -> None:
    sessions = [f"{session}:{number}" for number in range(3)]
    first, pids = levels(keeper, *sessions)
    assert keeper.call("stop", "-n", "level1", "-s", sessions[1]).returncode == 0
    assert [is_alive(pid) for pid in pids[1:]] == [False] * 2
    keeper.call("stop", "-s", sessions[0])
    assert first.wait() is not None


def test_after_a_kill_of_the_middle_one_the_first_name_reaches_the_last(
    keeper: Scopekeeper, session: str
) -> None:
    """The owner of all is the process that started the first: it lives on."""
    sessions = [f"{session}:{number}" for number in range(3)]
    _, pids = levels(keeper, *sessions)
    os.kill(pids[1], 9)
    eventually(lambda: not is_alive(pids[1]))
    assert is_alive(pids[2])
    why = keeper.call("why", sessions[1]).stdout
    assert f"What was launched from it runs: level2 ({leaf_of(pids[2])} in {sessions[2]}" in why
    found = keeper.call("ls", "-s", sessions[1]).stdout
    assert "launched by level1 (m-level1." in found
    assert keeper.call("stop", "-s", sessions[1]).returncode == 0
    assert not is_alive(pids[2])


def test_what_ends_with_its_launcher_was_stopped_too(
    keeper: Scopekeeper, session: str, other: str, tmp_path: Path
) -> None:
    """Servers whose input closes end before their own signal comes."""
    count = 20
    start = shlex.join(keeper.argv("-s", other, "-n"))
    script = f"for n in $(seq {count}); do mkfifo $0/$n; {start} s$n -- cat $0/$n & done; "
    script += f"for n in $(seq {count}); do exec {{fd}}>$0/$n; done; wait"
    keeper.member("-s", session, "-n", "gateway", "--", "bash", "-c", script, str(tmp_path))
    eventually(lambda: members(other).count("cat\n") == count)
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0
    assert done.stdout.count(": gone after ") == count + 1, done.stdout
    assert {each["reason"] for each in history(keeper, other)} == {"stopped by request"}


def members(session: str) -> list[str]:
    """Return the commands of what runs in a session."""
    directory = scope_directory(session)
    return [text_of(f"/proc/{pid}/comm") for pid in processes(directory)] if directory else []


def test_the_functions_of_python_and_of_the_bus_do_the_same(
    guard: Keeper, keeper: Scopekeeper, session: str, other: str
) -> None:
    process = outer(keeper, session, other)
    listed = scopekeeper.list_scopes(session=session)
    assert [each.session for each in listed] == [other]
    (result,) = scopekeeper.stop(session, note="by python")
    assert (result.outcome, result.target.leaf[:8]) == ("terminated", "m-inner.")
    assert process.wait() == -15
    with pytest.raises(scopekeeper.errors.NotFoundError):
        scopekeeper.stop(session)
    with allowed():
        guard.start()
        process = outer(keeper, session, other)
        selector = ["1", "session", "s", session]
        done = busctl("--json=short", "call", *BUS, "Stop", "a{sv}s", *selector, "enough")
        assert done.returncode == 0, done.stderr
        assert '"inner"' in done.stdout
        assert process.wait() == -15
