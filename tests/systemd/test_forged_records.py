"""What a record says that its own processes have rewritten harms, and proves, nothing."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.machine import (
    ATTRIBUTE,
    FOREVER,
    PATIENCE,
    Scopekeeper,
    directory_of,
    end_cgroup,
    eventually,
    is_alive,
    processes,
    record_of,
    rewrite_record,
    wait_for_command,
)

from .guard import UNIT, Keeper
from .manager import systemctl
from .test_callers import bare

pytestmark = pytest.mark.systemd

NUMBERS = ("--5", "9" * 400, "9" * 5000, "\u0665", "-1")
SCOPE_FIELDS = ("GRACE", "TTL", "CREATED", "BOOTTIME", "STOPPER_PID", "OWNER_PID", "OWNER_START")
MEMBER_FIELDS = ("PID", "START", "STARTED", "BOOTTIME", "ORPHANED", "LEADERLESS", "OWNER_START")


def scope_of(process: "subprocess.Popen[bytes]") -> str:
    """Return the directory of the scope that a process is a member of."""
    return os.path.dirname(directory_of(process.pid))


def shown(keeper: Scopekeeper, *arguments: str) -> dict[str, dict[str, object]]:
    """Return what ``ls`` shows, by unit."""
    return {str(each["unit"]): each for each in keeper.scopes(*arguments)}


def history(keeper: Scopekeeper, session: str) -> list[dict[str, object]]:
    """Return what has ended in a session."""
    done = keeper.call("history", "-s", session, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["ends"]
    return found


def test_a_damaged_record_harms_its_own_scope_only(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    other = keeper.member("-s", f"{session}:other", "--", *FOREVER)
    victim = keeper.member("-s", session, "--", *FOREVER)
    scope, leaf = scope_of(victim), directory_of(victim.pid)
    whole, own = record_of(scope), record_of(leaf)
    unit = os.path.basename(scope)
    states = []
    for at, text in enumerate(NUMBERS):
        for directory, record, fields in (
            (scope, whole, SCOPE_FIELDS),
            (leaf, own, MEMBER_FIELDS),
        ):
            key = fields[at % len(fields)]
            rewrite_record(directory, **{**record, "STATE": "stopping", key: text}
                           if key.startswith("STOPPER") else {**record, key: text})  # fmt: skip
            both = shown(keeper)
            assert both[os.path.basename(scope_of(other))]["state"] == "running", key
            found = both[unit] if directory == scope else both[unit]["members"][0]  # type: ignore[index]
            states.append((key, found["state"]))
            assert key in str(found["problem"])
            os.setxattr(directory, ATTRIBUTE, raw(record))
    assert {state for _, state in states} == {"damaged"}, states
    os.setxattr(scope, ATTRIBUTE, raw(whole | {"GRACE": "--5"}))
    for words in (
        ["reconcile"], ["why", session], ["history"], ["ls", "--members"],
        ["reconcile", "--dry-run"], ["adopt", "-s", f"{session}:other", "--force"],
    ):  # fmt: skip
        done = keeper.call(*words)
        assert done.returncode == 0, (words, done.stderr)
    joiner = keeper.run("-s", session, "--", "true")
    assert joiner.returncode == 0 or "systemctl" in joiner.stderr, joiner.stderr
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 1
    assert "GRACE" in done.stdout
    assert is_alive(victim.pid)
    command = done.stdout.strip().rpartition("end it: ")[2]
    assert command.startswith("systemctl ")
    done = keeper.call("stop", "-s", f"{session}:other")
    assert done.returncode == 0, done.stdout
    assert not is_alive(other.pid)
    assert [end["reason"] for end in history(keeper, f"{session}:other")] == ["stopped by request"]
    subprocess.run(command, shell=True, check=True)
    eventually(lambda: not is_alive(victim.pid))


def raw(record: dict[str, str]) -> bytes:
    """Write a record."""
    return "".join(f"{key}={value}\n" for key, value in record.items()).encode()


@pytest.mark.parametrize("by", ["its name", "its record"])
def test_a_scope_that_says_it_is_another_is_shown_and_ended_by_either_name(
    keeper: Scopekeeper, session: str, by: str
) -> None:
    owner = keeper.popen(["sleep", "infinity"])
    liar = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    innocent = keeper.member("-s", f"{session}:innocent", "--", *FOREVER)
    scope = scope_of(liar)
    rewrite_record(scope, SESSION=f"{session}:claimed")
    owner.kill()
    owner.wait()
    for name in (session, f"{session}:claimed"):
        (found,) = keeper.scopes("-s", name)
        assert (found["state"], found["session"]) == ("forged", session)
        assert found["claims"]["session"] == f"{session}:claimed"  # type: ignore[index]
        listed = keeper.call("ls", "-s", name).stdout
        assert f"{session}:claimed" in listed
        assert "systemctl" in listed
    done = keeper.call("reconcile")
    assert done.returncode == 0, done.stderr
    (line,) = [each for each in done.stdout.splitlines() if "forged" in each]
    assert "reported" in line
    assert is_alive(liar.pid), "it was ended on its own word"
    joiner = keeper.run("-s", session, "--", "true")
    assert (joiner.returncode, len(joiner.stderr.splitlines())) == (125, 1)
    assert "forged" in joiner.stderr
    name = session if by == "its name" else f"{session}:claimed"
    done = keeper.call("stop", "-s", name, "--must-exist")
    assert done.returncode == 0, done.stdout
    assert not is_alive(liar.pid)
    assert is_alive(innocent.pid)


def test_a_scope_whose_name_was_cut_is_not_forged(keeper: Scopekeeper, session: str) -> None:
    long = session + ":" + "x" * 400
    keeper.member("-s", long, "-l", "nested:" + "y" * 300, "--run", "z" * 200, "--", *FOREVER)
    (found,) = keeper.scopes("-s", long)
    assert (found["state"], found["claims"]) == ("running", None)
    assert keeper.call("stop", "-s", long).returncode == 0


OTHER_CGROUPS = os.readlink("/proc/self/ns/pid")[5:-1] + "/1"


@pytest.mark.parametrize(
    "changes",
    [
        {"NAMESPACES": "1/2"},
        {"NAMESPACES": OTHER_CGROUPS},
        {"LANE": "other", "RUN": "other"},
        {"UNKNOWN": "x" * 9000},
    ],
    ids=["another container", "other cgroups", "another lane and run", "fields that are not known"],
)
def test_no_record_hides_a_scope_from_its_session(
    keeper: Scopekeeper, session: str, changes: dict[str, str]
) -> None:
    hidden = keeper.member("-s", session, "--", *FOREVER)
    rewrite_record(scope_of(hidden), **changes)
    done = keeper.call("stop", "-s", session, "--must-exist")
    assert done.returncode == 0, done.stdout
    assert not is_alive(hidden.pid)


def test_a_member_that_says_it_is_another_is_ended_by_either_name(
    keeper: Scopekeeper, session: str
) -> None:
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    for name in ("liar", "claimed"):
        liar = keeper.member("-s", session, "-n", "liar", "--", *FOREVER)
        rewrite_record(directory_of(liar.pid), NAME="claimed")
        (found,) = keeper.scopes("-s", session)
        states = {each["name"]: each["state"] for each in found["members"]}  # type: ignore[attr-defined]
        assert states == {"sibling": "running", "liar": "forged"}
        done = keeper.call("stop", "-s", session, "-n", name, "--must-exist")
        assert done.returncode == 0, done.stdout
        assert not is_alive(liar.pid)


def test_a_member_that_fills_up_its_attributes_is_stopped_all_the_same(
    keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    scope = scope_of(member)
    room = 65_000
    for number in range(60):
        try:
            os.setxattr(scope, f"user.n{number}", b"x" * room)
        except OSError:
            room //= 2
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stdout
    assert not is_alive(member.pid)


LIE = {
    "STATE": "stopping", "STOPPER_PID": "1", "STOPPER_START": "1", "WHY": "stopped by request",
    "REASON": "its turn was over", "ASKER_PID": "1", "ASKER_UID": "0", "ASKER_COMM": "sshd",
}  # fmt: skip


@pytest.mark.parametrize("watched", [True, False], ids=["keeper", "no keeper"])
@pytest.mark.parametrize("where", ["leaf", "scope"])
def test_what_a_member_writes_of_its_end_proves_nothing(
    guard: Keeper, keeper: Scopekeeper, session: str, where: str, watched: bool
) -> None:
    if watched:
        guard.start()
    keeper.member("-s", session, "-n", "sibling", "--", *FOREVER)
    liar = keeper.member("-s", session, "-n", "liar", "--", "sh", "-c", "read x; exit 3",
                         stdin=subprocess.PIPE)  # fmt: skip
    leaf = directory_of(liar.pid)
    if watched:
        eventually(lambda: "liar" in guard.living())
    rewrite_record(leaf if where == "leaf" else os.path.dirname(leaf), **LIE)
    assert liar.stdin is not None
    liar.stdin.close()
    assert liar.wait(PATIENCE) in (3, -signal.SIGTERM)
    if not watched:
        keeper.call("reconcile")
    (end,) = eventually(lambda: [e for e in guard.history(session) if e["member"] == "liar"])
    assert end["reason"] != "stopped by request", end
    assert end["stopper"] is None or end["stopper"]["command"] != "sshd"  # type: ignore[index]
    evidence = str(end["evidence"])
    if "sshd" in evidence:
        assert "nothing proves" in evidence
    else:
        assert watched, evidence  # the keeper had begun to finish that stop: its mark is there now


def test_of_a_stop_that_was_killed_the_record_proves_nothing_either(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    rewrite_record(scope_of(member), **LIE)
    assert keeper.call("reconcile").returncode == 0
    assert not is_alive(member.pid)
    (end,) = guard.history(session)
    assert end["reason"] == "unknown"
    assert end["stopper"]["pid"] == os.getpid()  # type: ignore[index]
    assert "nothing proves" in str(end["evidence"])


def test_a_keeper_knows_who_asked_for_a_stop_whatever_the_record_says(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    script = (
        "import os, signal, time\n"
        "def lie(*_):\n"
        "    path = '/sys/fs/cgroup' + open('/proc/self/cgroup').read().split('0::')[1].strip()\n"
        "    for each in (path, os.path.dirname(path)):\n"
        "        raw = os.getxattr(each, 'user.scopekeeper')\n"
        "        raw = raw.replace(b'WHY=stopped by request', b'WHY=owner gone')\n"
        "        raw = raw.replace(b'ASKER_PID=', b'ASKER_PID=1')\n"
        "        os.setxattr(each, 'user.scopekeeper', raw)\n"
        "    time.sleep(0.5)\n"  # a keeper reads it again
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, lie)\n"
        "print('ready', flush=True)\n"
        "time.sleep(1000)\n"
    )
    liar = keeper.start("-s", session, "--", sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert liar.stdout is not None
    assert liar.stdout.readline() == b"ready\n"
    assert keeper.call("stop", "-s", session, "--reason", "turn is over").returncode == 0
    (end,) = guard.ends(session)
    assert end["reason"] == "stopped by request"
    assert end["stopper"]["pid"] == os.getpid()  # type: ignore[index]


def test_a_flood_of_lives_is_one_row_and_ends_nothing_that_lives(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    liar = keeper.member("-s", session, "-n", "liar", "--", *FOREVER)
    leaf = directory_of(liar.pid)
    scope = os.path.dirname(leaf)
    empty = f"{scope}/m-empty.00000001"
    os.mkdir(empty)
    own, whole = record_of(leaf), record_of(scope)
    eventually(lambda: "liar" in guard.living())
    for number in range(100):
        os.setxattr(leaf, ATTRIBUTE, raw(own | {"STARTED": str(number)}))
        os.setxattr(scope, ATTRIBUTE, raw(whole | {"CREATED": str(number)}))
        arriving = {"PID": str(os.getpid()), "START": start_of(os.getpid())}
        gone = {"PID": "1", "START": "1"}
        os.setxattr(empty, ATTRIBUTE, raw(own | {"NAME": "empty", "STARTED": str(number)}
                                          | (arriving if number % 2 else gone)))  # fmt: skip
        time.sleep(0.01)  # else the keeper sees few of them
    assert is_alive(liar.pid)
    systemctl("stop", UNIT)  # it tells of every end that it knows
    names = [end["member"] for end in guard.history(session)]
    assert "liar" not in names, "it lives"
    assert names.count("empty") <= 1
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not is_alive(liar.pid)


READ_ALL = """
import os, random, sys
from scopekeeper.scope import names
from scopekeeper.cli import ls_document, ls_rows, reconcile
from scopekeeper.cli.ends import Ends
from scopekeeper.cli.list_view import View
from scopekeeper.cli.ls_beneath import Beneath
from scopekeeper.cli.ls_origins import Origins
from scopekeeper.lifecycle import observe
from scopekeeper.scope import launched
from scopekeeper.scope.placement import mount_point
from scopekeeper.scope.selection import Selector
from scopekeeper.lifecycle.plan import plan
from scopekeeper.policy.rules import Policy
from scopekeeper.lifecycle.reconcile import Done
from scopekeeper.scope.snapshot import Reader
scope, leaf, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
whole, own = (os.getxattr(each, "user.scopekeeper") for each in (scope, leaf))
number = random.Random(7)
values = [b"--5", b"9" * 400, b"9" * 5000, b"", b"-1", b"\\xd9\\xa5", b"\\0", b"x" * 900, b"0",
          b"9" * 19, b"9223372036854775807", b"4194304", b"stopping", b"child", b"../..", b"1 2 3",
          b"scopekeeper-a-main.scope/m-x.01234567", b"CODEX_SESSION_ID inherited \x1b[2J"]
extra = [b"STATE", b"STOPPER_PID", b"STOPPER_START", b"ASKER_PID", b"ASKER_UID", b"WHY", b"REASON",
         b"IDLE", b"ORPHANED", b"LEADERLESS", b"TTL", b"GRACE", b"JOINING", b"BOUND", b"KIND",
         b"LAUNCHED_IN", b"CONTINUES", b"IGNORED", b"LABEL", b"OWNER_NAME", b"SESSION"]
def changed(raw):
    lines = [line for line in raw.split(b"\\n")[1:-1]]
    lines += [key + b"=" for key in number.sample(extra, 3)]
    for _ in range(number.randint(1, 3)):
        at = number.randrange(len(lines))
        lines[at] = lines[at].partition(b"=")[0] + b"=" + number.choice(values)
    text = bytearray(b"\\n".join([b"V=1", *lines, b""]))
    if number.random() < 0.2:
        text[number.randrange(len(text))] = number.randrange(256)
    return bytes(text)
for _ in range(rounds):
    os.setxattr(scope, "user.scopekeeper", changed(whole))
    os.setxattr(leaf, "user.scopekeeper", changed(own))
    reader = Reader(mount_point(), usage=True, activity=True)
    snapshot = reader.snapshot(uid=os.getuid())
    ends = Ends(snapshot)
    shown = [(each, ends.state(each)) for each in snapshot.scopes]
    went_on = launched.continuations(snapshot)
    named, _ = launched.look_up(snapshot, (), Selector(session="a"))
    origins = Origins(named.launched(snapshot), went_on)
    rows = ls_rows.of_scopes(shown, ends)
    for each in (row.of for row in rows):
        ls_document.document(each.scope, each.state, ends, snapshot.now, went_on, each.title, {})
    for width in (None, 80):
        beneath = Beneath(ends, snapshot.now, width, origins, None)
        below = [beneath.of(row.of.scope, members=True) for row in rows]
        View(ls_rows.COLUMNS).print(rows, also={"USER"}, beneath=below, total=ls_rows.total(rows))
    for action in plan(snapshot, Policy()):
        reconcile._document(Done(action, "")), reconcile._evidence(Done(action, ""))
    observe.unseen(scope)
    observe.members(scope, None, os.path.basename(scope))
os.setxattr(scope, "user.scopekeeper", whole)
os.setxattr(leaf, "user.scopekeeper", own)
"""


def test_no_record_at_all_ends_what_reads_every_scope(keeper: Scopekeeper, session: str) -> None:
    member = keeper.member("-s", session, "--", *FOREVER)
    scope, leaf = scope_of(member), directory_of(member.pid)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, scope, leaf, "200"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert is_alive(member.pid)
    assert keeper.call("stop", "-s", session).returncode == 0


def start_of(pid: int) -> str:
    """Return when a process began, as a record has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.root
def test_what_another_user_plants_harms_no_command_of_root(
    keeper: Scopekeeper, session: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root is asked about other users")
    launch = ["setpriv", "--reuid=lab", "--regid=lab", "--init-groups", "--",
              *keeper.argv("-s", session, "--", *FOREVER)]  # fmt: skip
    theirs = keeper.popen(launch, env=bare("lab"), cwd="/")
    wait_for_command(theirs)
    mine = keeper.member("-s", f"{session}:mine", "--", *FOREVER)
    scope, leaf = scope_of(theirs), directory_of(theirs.pid)
    for directory, fields in ((scope, SCOPE_FIELDS), (leaf, MEMBER_FIELDS)):
        record = record_of(directory)
        code = (
            "import os,sys,json; os.setxattr(sys.argv[1], 'user.scopekeeper', "
            "''.join(f'{k}={v}\\n' for k, v in json.loads(sys.argv[2]).items()).encode())"
        )
        planted = json.dumps(record | {fields[0]: "9" * 5000})
        subprocess.run(["setpriv", "--reuid=lab", "--regid=lab", "--init-groups", "--",
                        sys.executable, "-c", code, directory, planted], check=True)  # fmt: skip
    for words in (
        ["ls", "--all-owners"], ["ls", "--json", "--all-owners"], ["reconcile"], ["why", session],
        ["stop", "-s", f"{session}:mine", "--must-exist"],
    ):  # fmt: skip
        done = keeper.call(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert not is_alive(mine.pid)
    found = shown(keeper, "--all-owners")[os.path.basename(scope)]
    assert found["state"] == "damaged"
    assert shlex.split(str(found["ended_by"]))[:4] == ["systemctl", "--user", "-M", "1000@"]
    assert is_alive(theirs.pid)
    assert processes(scope) == {theirs.pid}
    end_cgroup(scope)


def test_a_member_that_damages_its_record_does_not_hide_from_its_name(
    keeper: Scopekeeper, session: str
) -> None:
    member = keeper.member("-s", session, "-n", "srv", "--", *FOREVER)
    rewrite_record(directory_of(member.pid), OWNER_PID="--5")
    for selector in (("-n", "srv"), ("--mine",)):
        done = keeper.call("stop", "-s", session, *selector)
        assert done.returncode == 1, done.stdout
        assert "end it with its scope: scopekeeper stop scopekeeper-" in done.stdout
    assert is_alive(member.pid)
    unit = done.stdout.rpartition("scopekeeper stop ")[2].strip()
    assert keeper.call("stop", unit).returncode == 0
    assert member.wait() == -signal.SIGTERM
