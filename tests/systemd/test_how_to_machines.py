"""What docs/many-machines.md has somebody do, done over a real ssh to this machine."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import is_as_shown
from tests.docs.how_to import block, transcript
from tests.machine import FOREVER, PROGRAM, Scopekeeper

from .ssh import HOST, IS_THERE, Ssh

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not IS_THERE, reason="there is no ssh, or no server for it"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with the file of hosts: this machine, and one that is down."""
    path = f"export PATH={Path(PROGRAM).parent}:$PATH; "
    ssh = Ssh(tmp_path, forced=path + 'eval "$SSH_ORIGINAL_COMMAND"')
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "hosts").write_text(f"{HOST}\ndown\n")
    (folder / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {ssh.configuration} "$@"\n')
    (folder / "ssh").chmod(0o755)
    again = ssh.configuration.read_text().partition("\n")[2]
    with ssh.configuration.open("a") as file:
        file.write("Host down\nHostName 127.0.0.1\nPort 1\n")
        # both are this machine
        file.write(f"Host build1\n{again}Host build2\n{again}")
    yield folder
    ssh.close()


def call(folder: Path, title: str) -> subprocess.CompletedProcess[str]:
    """Run the loop below a heading, with the whole path of the program, as the page has it."""
    text = block("many-machines.md", title, "sh").replace(" scopekeeper ls", f" {PROGRAM} ls")
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def test_hosts_and_groups_are_asked_by_the_lines_of_the_page(
    keeper: Scopekeeper, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(folder))
    (folder / "hosts.toml").write_text(block("many-machines.md", "In one table", "toml"))
    keeper.member("-s", "demo:web", "--", *FOREVER)
    environment = {**os.environ, "PATH": f"{folder}:{Path(PROGRAM).parent}:/usr/bin:/bin"}

    def shell(line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["bash", "-c", line], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300)  # fmt: skip

    ((command, expected),) = transcript(block("many-machines.md", "In one table", "shell-session"))
    done = shell(command)
    assert is_as_shown(done.stdout, expected), (done.stdout, expected)
    assert done.returncode == 1
    lines = block("many-machines.md", "In one table", "sh").splitlines()
    assert len(lines) == 4
    for line in lines:
        done = shell(line)
        assert done.returncode == 0 or (done.returncode == 1 and " doctor " in line), done.stdout
        assert "build1" in done.stdout or " --where" in line or " history " in line


def test_metrics_and_the_page_of_a_group_are_made_by_the_lines_of_the_pages(
    keeper: Scopekeeper, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(folder))
    (folder / "hosts.toml").write_text('[groups]\nbuild = ["build1", "build2"]\n')
    keeper.member("-s", "demo:web", "--", *FOREVER)
    environment = {**os.environ, "PATH": f"{folder}:{Path(PROGRAM).parent}:/usr/bin:/bin"}
    lines = block("many-machines.md", "Live, as metrics, as a page", "sh")
    assert block("metrics.md", "Of several machines", "sh") in lines
    assert block("report.md", "Of several machines", "sh") in lines
    subprocess.run(["bash", "-ec", lines], cwd=folder, env=environment, check=True, timeout=300)
    assert 'scopekeeper_host_up{host="build2"} 1.0' in (folder / "build.prom").read_text()
    assert "What ran on build1, build2" in (folder / "build.html").read_text()


def test_each_machine_that_answers_has_a_file_and_the_others_are_named(
    keeper: Scopekeeper, session: str, folder: Path
) -> None:
    keeper.member("-s", session, "--", *FOREVER)
    done = call(folder, "Ask all of them")
    (scope,) = json.loads((folder / f"{HOST}.ls.json").read_text())["scopes"]
    assert scope["session"] == session
    assert "down: ssh or scopekeeper failed" in done.stderr
    assert HOST not in done.stderr


def test_a_machine_is_named_as_long_as_it_has_orphans(
    keeper: Scopekeeper, session: str, folder: Path
) -> None:
    owner = keeper.popen(list(FOREVER))
    keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    assert call(folder, "Find leftovers").stdout == ""
    owner.kill()
    owner.wait()
    assert call(folder, "Find leftovers").stdout == f"{HOST} has orphans\n"
    assert keeper.call("reconcile").returncode == 0
    assert call(folder, "Find leftovers").stdout == ""


def test_what_it_has_one_collect_is_one_document_each(
    keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    page = (Path(__file__).parents[2] / "docs" / "many-machines.md").read_text()
    rows = [line.split("`")[1].split()[1:] for line in page.splitlines() if line[:3] == "| `"]
    assert len(rows) == 6
    for words in rows:
        done = keeper.call(*words)
        assert done.returncode in ((0, 1) if words[0] == "doctor" else (0,)), done.stderr
        assert json.loads(done.stdout)["version"] == 1


def test_a_page_comes_from_another_machine(keeper: Scopekeeper, session: str, folder: Path) -> None:
    keeper.member("-s", session, "--", *FOREVER)
    line = block("report.md", "From another machine", "sh")
    line = line.replace("HOST", HOST).replace(" scopekeeper ", f" {PROGRAM} ")
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", line], cwd=folder, env=environment, check=True, timeout=60)
    page = (folder / f"{HOST}.html").read_text()
    assert page.endswith("</html>\n")
    assert session in page
