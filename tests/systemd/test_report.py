"""`scopekeeper report` on a real machine: what ended, runs, lost its owner or left its scope."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    eventually,
    text_of,
)

from .manager import Units, systemd_run_argv

pytestmark = pytest.mark.systemd

Rows = dict[str, list[str]]


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history of the test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(folder))
    return folder


def report(keeper: Scopekeeper, *arguments: str) -> str:
    done = keeper.call("report", *arguments, "-")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def members(page: str, session: str) -> Rows:
    """Return the rows of a session in the table of all members, by the member's name."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    rows = [
        [cell if isinstance(cell, str) else cell[0] for cell in row]
        for row in json.loads(found[1])["rows"]
    ]
    return {row[row.index(session) + 2]: row for row in rows if session in row}


def part(page: str, title: str) -> str:
    """Return the text of a section."""
    (found,) = (x for x in page.split("<section>") if x.startswith(f"<h2>{title}"))
    return re.sub("<[^>]*>", " ", found)


def test_it_has_what_ended_and_what_runs_with_the_numbers_of_the_kernel(
    keeper: Scopekeeper, session: str
) -> None:
    running = keeper.member("-s", session, "-n", "runs", "--kind", "mcp", "--", *FOREVER)
    busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 3"
    assert keeper.run("-s", session, "-n", "ended", "--", "sh", "-c", busy).returncode == 3
    page = report(keeper)
    rows = members(page, session)
    assert rows["runs"][0] == rows["runs"][4] == "running"
    ended = rows["ended"]
    assert re.fullmatch(r"≤?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", ended[0])
    assert ended[4] in ("exited", "unknown"), "without a keeper nobody may have seen how"
    assert re.search(rf" {re.escape(session)} +main +running ", part(page, "Running now"))
    assert "runs" in part(page, "The most expensive servers"), "it is of kind mcp"
    leaf = f"{MOUNT}{cgroup_of(running.pid)}/cpu.stat"
    if stat := text_of(leaf):
        seconds = int(stat.split()[1]) / 1e6
        assert rows["runs"][8] == f"{seconds:.1f}s"


def test_an_orphan_and_what_left_its_scope_are_there_with_the_evidence(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    owner = keeper.popen(list(FOREVER))
    unit = f"runaway-{session[-8:]}.scope"
    units.adopt(unit)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER))
    file = tmp_path / "pid"
    script = f"{leave} & echo $! > {file}; exec sleep 1000"
    keeper.member("-s", session, "-n", "browser", "--owner", str(owner.pid), "--", "sh", "-c",
                  script)  # fmt: skip
    pid = eventually(lambda: text_of(file).strip())
    eventually(lambda: unit in cgroup_of(pid) and text_of(f"/proc/{pid}/comm") == "sleep\n")
    before = part(report(keeper), "Orphans and escapes")
    assert "No scope that runs has lost its owner." in before
    assert re.search(rf"{re.escape(session)} +main +{pid} +sleep +process {pid} is in ", before)
    assert "infinity" not in before, "nothing has arguments"
    assert f"{pid}" in part(report(keeper, "--commands"), "Orphans and escapes")
    owner.kill()
    owner.wait()
    after = part(report(keeper), "Orphans and escapes")
    assert re.search(rf"{re.escape(session)} +main +orphan .*process {owner.pid} has ended", after)


@pytest.mark.skipif(not ROOT, reason="only root sees what others run")
def test_root_has_the_members_of_every_user(keeper: Scopekeeper, session: str) -> None:
    keeper.member("-s", session, "-n", "of-root", "--", *FOREVER)
    theirs = f"{session}:lab"
    launch = ["/usr/local/bin/as-user", "--", PROGRAM, "run", "-s", theirs, "-n", "of-lab", "--",
              *FOREVER]  # fmt: skip
    keeper.popen(launch, stdin=subprocess.DEVNULL)
    eventually(lambda: theirs in keeper.call("ls", "--all-users").stdout)
    page = report(keeper, "--all-users")
    assert members(page, session)["of-root"][0] == "root"
    assert members(page, theirs)["of-lab"][0] == "lab"
    assert theirs not in report(keeper)
    assert keeper.call("stop", "--all-users", "-s", theirs).returncode == 0


def test_a_page_that_is_replaced_is_never_half_there(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    """Killed at any moment, it has left the old page or the new one, and a reader sees a whole."""
    keeper.member("-s", session, "--", *FOREVER)
    file = tmp_path / "page.html"
    assert keeper.call("report", str(file)).returncode == 0
    for delay in (0.05, 0.2, 0.4, 0.6, 0.8):
        writer = keeper.popen([PROGRAM, "report", str(file)], stdout=subprocess.DEVNULL)
        try:
            writer.wait(delay)
        except subprocess.TimeoutExpired:
            writer.kill()
            writer.wait()
        text = file.read_text()
        assert text.startswith("<!doctype html>")
        assert text.endswith("</html>\n")
    assert os.stat(file).st_mode & 0o777 == 0o600
