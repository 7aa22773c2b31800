"""A record that names others as its own ends none of their processes, and gains no immunity."""

import json
import os
import subprocess
import sys

import pytest

from tests.machine import (
    ATTRIBUTE,
    FOREVER,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    text_of,
)

from .canary import Canaries
from .guard import Keeper
from .test_callers import bare
from .test_forged_records import start_of
from .test_other_users import as_user

pytestmark = pytest.mark.systemd

OTHERS = (
    "another living owner", "another session", "another user", "another process as its command",
    "a newer version", "more fields by newlines", "more fields by line ends", "launched in another",
    "that it goes on from another", "a stop by another", "a place that another holds",
    "a place that another made", "the label of another", "half characters alone",
)  # fmt: skip


def lie(what: str, canaries: Canaries, record: dict[str, str]) -> bytes:
    """Return a record that claims something of a canary."""
    member, outside = canaries.member.pid, canaries.outside.pid
    theirs = directory_of(member)
    above = f"{os.path.basename(os.path.dirname(theirs))}/{os.path.basename(theirs)}"
    claims = {
        "another living owner": {"OWNER_PID": str(outside), "OWNER_START": start_of(outside)},
        "another session": {"SESSION": canaries.session, "LANE": "main", "NAME": "canary"},
        "another user": {"ASKER_UID": "0", "ASKER_PID": str(outside), "STATE": "stopping"},
        "another process as its command": {"PID": str(member), "START": start_of(member)},
        "a newer version": {},
        "more fields by newlines": {"SESSION_ID": f"x\\nPID={member}\\nSTATE=stopping"},
        "more fields by line ends": {"SESSION_ID": f"x\r\u2028PID={member}\x0b\x0c\x1c\x85"},
        "launched in another": {"LAUNCHED_IN": above},
        "that it goes on from another": {"LAUNCHED_IN": above, "CONTINUES": "1"},
        "a stop by another": {"STATE": "stopping", "STOPPER_PID": str(outside),
                              "STOPPER_START": start_of(outside)},
        "a place that another holds": {"JOINING": "placed", "PID": str(outside), "WAITS_UNTIL": "1",
                                       "START": start_of(outside)},
        "a place that another made": {"JOINING": "placing", "PID": str(outside),
                                      "START": start_of(outside)},
        "the label of another": {"LABEL": canaries.session},
        "half characters alone": dict.fromkeys(("SESSION", "LANE", "NAME"), "\udca5" * 200),
    }[what]  # fmt: skip
    lines = [f"{key}={value}\n" for key, value in {**record, **claims}.items() if key != "V"]
    version = "V=9\n" if what == "a newer version" else "V=1\n"
    return "".join([version, *lines]).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("watched", [True, False], ids=["keeper", "no keeper"])
@pytest.mark.parametrize("what", OTHERS)
def test_it_harms_no_other_and_ends_by_its_name(
    guard: Keeper, keeper: Scopekeeper, session: str, what: str, watched: bool
) -> None:
    if watched:
        guard.start()
    before = guard.pid
    canaries = Canaries(keeper, session)
    owner = keeper.popen(list(FOREVER))
    liar = keeper.member("-s", session, "-n", "liar", "--owner", str(owner.pid), "--", *FOREVER)
    leaf = directory_of(liar.pid)
    scope = os.path.dirname(leaf)
    for folder in (leaf, scope):
        os.setxattr(folder, ATTRIBUTE, lie(what, canaries, record_of(folder)))
    owner.kill()
    owner.wait()
    for call in (["ls", "--members"], ["ls", "--tree"], ["ps"], ["why", session], ["history"],
                 ["reconcile", "--dry-run"], ["reconcile"], ["adopt", "-s", session],
                 ["ls", "--json"], ["metrics"]):  # fmt: skip
        done = keeper.call(*call)
        assert "Traceback" not in done.stderr, (call, done.stderr)
        assert done.returncode in (0, 1, 4), (call, done.stdout, done.stderr)
        canaries.check()
    if what == "a stop by another":  # a launch waits for the end of that: see below
        joiner = keeper.start("-s", session, "-n", "joins", "--", "true", stderr=subprocess.PIPE)
        assert joiner.stderr is not None
        assert f"waiting for process {canaries.outside.pid} " in joiner.stderr.readline().decode()
    else:
        joined = keeper.run("-s", session, "-n", "joins", "--", "true", timeout=100)
        assert "Traceback" not in joined.stderr
    canaries.check()
    done = keeper.call("stop", "-s", session)
    if "end it: " in done.stdout:
        command = done.stdout.strip().rpartition("end it: ")[2]
        assert command.startswith("systemctl "), done.stdout
        subprocess.run(command, shell=True, check=True)
    else:
        assert done.returncode in (0, 4), done.stdout + done.stderr
    eventually(lambda: not is_alive(liar.pid))
    canaries.check()
    beside = keeper.run("-s", canaries.session, "-n", "beside", "--", "echo", "ran")
    assert (beside.returncode, beside.stdout) == (0, "ran\n"), beside.stderr
    assert guard.pid == before


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root is asked about two users")
def test_what_another_user_writes_of_root_is_about_that_user_alone(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start()
    canaries = Canaries(keeper, session)
    theirs = keeper.popen(
        as_user("lab", *keeper.argv("-s", session, "-n", "liar", "--", *FOREVER)),
        env=bare("lab"), cwd="/",
    )  # fmt: skip
    eventually(lambda: text_of(f"/proc/{theirs.pid}/comm") == "sleep\n")
    leaf = directory_of(theirs.pid)
    mine = directory_of(canaries.member.pid)
    forged = record_of(mine) | {"NAME": "liar", "PID": str(canaries.member.pid),
                                "START": start_of(canaries.member.pid)}  # fmt: skip
    forged["LAUNCHED_IN"] = "/".join(mine.split("/")[-2:])
    code = "import os, sys; os.setxattr(sys.argv[1], 'user.scopekeeper', sys.argv[2].encode())"
    write = [sys.executable, "-IS", "-c", code]
    above, theirs_above = os.path.dirname(mine), os.path.dirname(leaf)
    for folder, record in ((leaf, forged), (theirs_above, record_of(above))):
        text = "".join(f"{key}={value}\n" for key, value in record.items())
        subprocess.run(as_user("lab", *write, folder, text), check=True)
    for call in (["reconcile"], ["stop", "-s", session], ["stop", "-s", canaries.session, "--mine"],
                 ["stop", "--owner", "1"]):  # fmt: skip
        done = keeper.call(*call)
        assert "Traceback" not in done.stderr
        if call[0] == "stop" and "--mine" in call:
            break
        canaries.check()
        assert is_alive(theirs.pid), call
    assert not is_alive(canaries.member.pid), "root has ended its own"
    assert is_alive(theirs.pid), "what another user's record says is no launch of root's"
    again = Canaries(keeper, session)
    done = keeper.call("reconcile", "--all-users", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    done = keeper.call("stop", "-s", session, "--all-users")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not is_alive(theirs.pid)
    again.check()
