"""One set of options selects for ``ls``, ``stop``, ``adopt`` and ``reconcile``; a dry run."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.machine import (
    FOREVER,
    ROOT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    processes,
    record_of,
    scope_directory,
)
from tests.viewer import Viewer

pytestmark = pytest.mark.systemd


def unit_of(process: subprocess.Popen[bytes]) -> str:
    """Return the scope unit that a member is in."""
    return cgroup_of(process.pid).split("/")[-2]


def listed(keeper: Scopekeeper, *options: str) -> set[str]:
    """Return the units that ``ls`` shows."""
    done = keeper.call("ls", "--json", *options)
    assert done.returncode == 0, done.stderr
    return {scope["unit"] for scope in json.loads(done.stdout)["scopes"]}


def orphan(keeper: Scopekeeper, *options: str) -> subprocess.Popen[bytes]:
    """Start a member whose owner has ended since."""
    owner = keeper.popen(["sleep", "infinity"])
    process = keeper.member(*options, "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    return process


def test_ls_shows_where_stop_would_stop_something(keeper: Scopekeeper, session: str) -> None:
    name, life, run = (f"{kind}{session[-8:]}" for kind in ("n", "life", "run"))
    wanted = keeper.member("-s", session, "-l", "a", "-n", name, "--session-id", life, "--run", run,
                           "--", *FOREVER)  # fmt: skip
    other = keeper.member("-s", f"{session}x", "-l", "b", "--lifetime", "detached", "--owner", "1",
                          "--", *FOREVER)  # fmt: skip
    unit, both = unit_of(wanted), {unit_of(wanted), unit_of(other)}
    for options in (
        ("-s", session), ("-l", "a"), ("-n", name), ("--session-id", life), ("--run", run),
        ("--owner", str(os.getpid())), ("--mine",), ("--lifetime", "gateway"),
        (session,), (life,), (run,), (name,), (unit,), ("-l", "a", "--state", "running"),
    ):  # fmt: skip
        assert listed(keeper, *options) & both == {unit}, options
        assert unit in keeper.call("stop", "--dry-run", "-l", "a", "-s", session).stdout
    assert listed(keeper) >= both
    assert listed(keeper, "--state", "running", "--state", "orphan") >= both
    now = f"@{time.time() + 5}"
    assert listed(keeper, "--started-before", now) >= both
    assert not listed(keeper, "--started-before", "2020-01-01") & both
    assert not listed(keeper, "-s", session, "-l", "b")


def test_ls_says_what_it_does_not_find(keeper: Scopekeeper, session: str) -> None:
    for words in (("-s", session), ("--name", session), ("--state", "expired")):
        done = keeper.call("ls", *words)
        assert done.returncode == 0
        assert done.stdout.count("\n") == 1, "a script finds the header alone"
        assert done.stdout.startswith("SESSION")
        assert done.stderr.startswith("No scope of yours matches")
        assert done.stderr.count("\n") == 1
    done = keeper.call("ls", session)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert repr(session) in done.stderr


def test_a_typing_error_gets_a_hint_and_no_other_status(keeper: Scopekeeper, session: str) -> None:
    """A script may stop what is over already."""
    keeper.member("-s", session, "-n", "files", "--", *FOREVER)
    wrong = session.replace("test:", "tset:")
    nothing = "Nothing matched; `scopekeeper ls` lists what there is"
    for more in ((), ("--dry-run",)):
        done = keeper.call("stop", "-s", wrong, *more)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{nothing}; is it {session}?\n"
        done = keeper.call("stop", "-s", session, "-n", "flies", *more)
        assert (done.returncode, done.stdout) == (0, f"{nothing}; is it files?\n")
        done = keeper.call("stop", "-s", "something-else", *more)
        assert (done.returncode, done.stdout) == (0, f"{nothing}.\n")
        done = keeper.call("stop", wrong, *more)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.endswith(f"; is it {session}?\n")
        assert "of yours is" in done.stderr
    done = keeper.call("why", wrong)
    assert (done.returncode, done.stdout) == (0, f"Nothing is known of {wrong}; is it {session}?\n")
    if ROOT:
        for verb in ("stop", "ls"):
            done = keeper.call(verb, wrong, "--all-users")
            assert done.returncode == 4
            assert "of yours" not in done.stderr
            assert "ls --members --no-trunc --all-users" in done.stderr


def test_a_terminal_gets_one_line_and_no_header(
    keeper: Scopekeeper, session: str, viewer: Callable[..., Viewer]
) -> None:
    assert keeper
    shown = viewer("ls", "-s", session)
    eventually(lambda: b"No scope of yours matches" in shown.raw)
    assert b"SESSION" not in shown.raw


def test_a_dry_run_names_what_the_stop_then_ends_and_changes_nothing(
    keeper: Scopekeeper, session: str
) -> None:
    pair = [keeper.member("-s", session, "-n", n, "--grace", "3s", "--", *FOREVER) for n in "ab"]
    leaf, scope = directory_of(pair[0].pid), os.path.dirname(directory_of(pair[0].pid))
    before = record_of(leaf), record_of(scope)
    done = keeper.call("stop", "-s", session, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{unit_of(pair[0])}: would end 2 members, 2 processes, with 3s from SIGTERM to SIGKILL\n"
        f"    a  pid {pair[0].pid}  {' '.join(FOREVER)}\n"
        f"    b  pid {pair[1].pid}  {' '.join(FOREVER)}\n"
    )
    one = keeper.call("stop", "-s", session, "-n", "a", "--dry-run", "--grace", "20s", "--json")
    (document,) = json.loads(one.stdout)["stopped"]
    assert json.loads(one.stdout)["dry_run"] is True
    real = keeper.call("stop", "-s", f"{session}x", "--json")
    assert set(json.loads(one.stdout)) == {*json.loads(real.stdout), "dry_run"}
    assert (document["member"], document["action"], document["pids"], document["grace_s"]) == (
        "a", "stop", [pair[0].pid], 20.0,
    )  # fmt: skip
    assert all(is_alive(each.pid) for each in pair)
    assert (record_of(leaf), record_of(scope)) == before, "no launch is kept out"
    third = keeper.member("-s", session, "-n", "c", "--", *FOREVER)
    assert unit_of(third) == unit_of(pair[0])
    assert keeper.call("stop", "-s", session).returncode == 0
    assert {each.wait() for each in (*pair, third)} == {-signal.SIGTERM}


def test_a_dry_run_lists_the_first_members_and_counts_the_rest(
    keeper: Scopekeeper, session: str
) -> None:
    """Of each, the first pids and the first words; in JSON, all of it."""
    command = ["sh", "-c", "for each in 1 2 3 4 5 6; do sleep infinity & done; wait", "x" * 200]
    first = keeper.member("-s", session, "-n", "first", "--", *command)
    eventually(lambda: len(processes(directory_of(first.pid))) == 7)
    more = [keeper.member("-s", session, "-n", f"m{n}", "--", *FOREVER) for n in range(11)]
    done = keeper.call("stop", "-s", session, "--dry-run")
    heading, mine, *lines, last = done.stdout.splitlines()
    assert ": would end 12 members, 18 processes, " in heading
    assert re.fullmatch(rf"    first  pid {first.pid}( \d+){{4}} and 2 more  sh -c for .*…", mine)
    assert len(mine) < 140
    assert lines == [
        f"    m{n}  pid {each.pid}  {' '.join(FOREVER)}" for n, each in enumerate(more[:9])
    ]
    assert last == "    and 2 more members"
    document = json.loads(keeper.call("stop", "-s", session, "--dry-run", "--json").stdout)
    members = {each["name"]: each for each in document["stopped"][0]["members"]}
    assert len(members) == 12
    assert set(members["first"]["pids"]) == processes(directory_of(first.pid))
    assert members["first"]["argv"] == command


def test_a_stop_of_what_has_ended_says_so(keeper: Scopekeeper, session: str) -> None:
    never = f"{session}:never"
    ended = keeper.member("-s", session, "-n", "ended", "--", *FOREVER)
    leaf = os.path.basename(directory_of(ended.pid))
    ended.kill()
    ended.wait()
    eventually(lambda: not scope_directory(session))
    for command in ("stop", "stop --dry-run", "ls"):
        for word in (session, leaf):
            done = keeper.call(*command.split(), word)
            assert done.returncode == 4
            hint = f"is '{word}'; it has ended; see: scopekeeper why {word}\n"
            assert done.stderr.endswith(hint), (command, done.stderr)
    assert "has ended" not in keeper.call("stop", never).stderr


def test_a_dry_run_that_matches_nothing_exits_as_the_stop_would(
    keeper: Scopekeeper, session: str
) -> None:
    for words, status in (
        (("-s", session), 0), (("-s", session, "--must-exist"), 4), ((session,), 4), ((), 2),
    ):  # fmt: skip
        done = keeper.call("stop", "--dry-run", *words)
        assert done.returncode == keeper.call("stop", *words).returncode == status, words
        assert len((done.stdout + done.stderr).splitlines()) == 1


def test_a_dry_run_says_what_the_stop_would_refuse(keeper: Scopekeeper, session: str) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    os.setxattr(os.path.dirname(directory_of(member.pid)), "user.scopekeeper", b"nonsense")
    preview = keeper.call("stop", "-s", session, "--dry-run")
    assert preview.returncode == 0
    assert "would be skipped: " in preview.stdout
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 1
    assert preview.stdout.rpartition("skipped: ")[2].strip() in done.stdout
    assert is_alive(member.pid)


def test_scopes_in_one_state_are_stopped(keeper: Scopekeeper, session: str) -> None:
    lost = orphan(keeper, "-s", session, "-l", "a")
    kept = keeper.member("-s", session, "-l", "b", "--", *FOREVER)
    done = keeper.call("stop", "-s", session, "--state", "orphan")
    assert done.returncode == 0, done.stderr
    assert lost.wait() == -signal.SIGTERM
    assert is_alive(kept.pid)
    assert listed(keeper, "-s", session) == {unit_of(kept)}


@pytest.mark.parametrize(
    "by", ["session", "lane", "name", "owner and lane", "started before", "state and session"]
)
def test_reconcile_is_restricted_to_what_is_selected(
    keeper: Scopekeeper, session: str, by: str
) -> None:
    name = f"n{session[-8:]}"
    going = orphan(keeper, "-s", session, "-l", "a", "-n", name)
    begun = time.time()
    staying = orphan(keeper, "-s", f"{session}x", "-l", "b", "-n", "other")
    owner = json.loads(keeper.call("ls", "--json", "-s", session).stdout)["scopes"][0]["owner"]
    options = {
        "session": ("-s", session), "lane": ("-l", "a"), "name": ("-n", name),
        "owner and lane": ("--owner", str(owner["pid"]), "-l", "a"),
        "started before": ("--started-before", f"@{begun}"),
        "state and session": ("--state", "orphan", "-s", session),
    }[by]  # fmt: skip
    preview = keeper.call("reconcile", "--dry-run", *options)
    assert session in preview.stdout
    assert f"{session}x" not in preview.stdout

    def has_ended() -> bool:
        done = keeper.call("reconcile", *options)  # the first one begins its grace
        assert done.returncode == 0, done.stderr
        return going.poll() is not None

    eventually(has_ended, pause=0.2)
    assert going.wait() == -signal.SIGTERM
    assert is_alive(staying.pid)


def test_adopt_takes_what_the_options_select(keeper: Scopekeeper, session: str) -> None:
    old = orphan(keeper, "-s", session, "-l", "a", "--lifetime", "session")
    new = orphan(keeper, "-s", session, "-l", "b")
    done = keeper.call(
        "adopt", "-s", session, "--lifetime", "session", "--owner", str(os.getpid()), "--json"
    )
    assert done.returncode == 0, done.stderr
    (adopted,) = json.loads(done.stdout)["members"]
    assert adopted["unit"] == unit_of(old)
    assert listed(keeper, "-s", session, "--state", "orphan") == {unit_of(new)}
    assert keeper.call("adopt", "-s", session, "--state", "expired").returncode == 4


def test_the_words_of_a_stop_have_two_names(keeper: Scopekeeper, session: str) -> None:
    for option in ("--note", "--reason"):
        member = keeper.member("-s", session, "--", *FOREVER)
        assert keeper.call("stop", "-s", session, option, f"said by {option}").returncode == 0
        member.wait()
        assert f"said by {option}" in keeper.call("why", session).stdout
    assert "--reason" not in keeper.call("stop", "--help").stdout
