"""What docs/limit-memory.md has somebody do, done."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, is_as_shown
from tests.docs.how_to import block, here, section, transcript
from tests.docs.shell import Shell
from tests.machine import PROGRAM, Scopekeeper, eventually, scope_directories

from .guard import Keeper
from .manager import show, systemctl

pytestmark = pytest.mark.systemd
PAGE = "limit-memory.md"


@pytest.fixture
def shell(keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("PATH", f"{Path(PROGRAM).parent}:/usr/bin:/bin")
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    made = Shell(tmp_path)
    yield made
    keeper.call("stop", "--state", "running")
    made.end()


def test_systemd_has_the_limits_that_the_launch_gives(shell: Shell) -> None:
    (launch, _), (look, expected) = transcript(block(PAGE, "For one session", "shell-session"))
    assert shell.do(launch)[0] == 0
    eventually(lambda: is_as_shown(shell.do(here(look))[1], expected))


def test_the_slice_has_the_limit_of_the_drop_in_until_it_is_removed(shell: Shell) -> None:
    before = show("scopekeeper.slice", "MemoryMax")
    assert before != str(16 << 30)
    try:
        for line in here(block(PAGE, "For everything together", "sh")).splitlines():
            assert shell.do(line)[0] == 0, line
        assert show("scopekeeper.slice", "MemoryMax") == str(16 << 30)
    finally:
        for line in here(block(PAGE, "Undo it", "sh")).splitlines():
            assert shell.do(line)[0] == 0, line
        subprocess.run(["sh", "-c", here("rmdir ~/.config/systemd/user/scopekeeper.slice.d")])
    assert show("scopekeeper.slice", "MemoryMax") == before


def test_systemd_oomd_is_to_monitor_the_slice_as_the_page_says(shell: Shell) -> None:
    assert show("scopekeeper.slice", "ManagedOOMMemoryPressure") == "auto"
    try:
        for line in here(block(PAGE, "When systemd-oomd runs", "sh")).splitlines():
            assert shell.do(line)[0] == 0, line
        assert show("scopekeeper.slice", "ManagedOOMMemoryPressure") == "kill"
    finally:
        folder = here("~/.config/systemd/user/scopekeeper.slice.d")
        subprocess.run(["sh", "-c", f"rm {folder}/oomd.conf; rmdir {folder}"])
        systemctl("daemon-reload")


def test_a_launch_is_refused_as_the_page_shows(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = block(PAGE, "When the machine is short", "shell-session")
    *prepare, (launch, refused), (remove, _) = transcript(
        text.replace("~/.config/scopekeeper", str(tmp_path))
    )
    assert shell.do(f"export SCOPEKEEPER_CONFIG={tmp_path}")[0] == 0
    for line, printed in prepare:
        assert (shell.do(line)[0], printed) == (0, "")
    server = tmp_path / "mcp-server-time"
    server.symlink_to("/bin/true")
    assert shell.do(f"PATH={tmp_path}:$PATH")[0] == 0
    assert is_as_shown(shell.do(launch)[1], refused)
    assert not scope_directories()
    assert shell.do(remove)[0] == 0
    assert shell.do(launch)[1] == "0\n"


def test_a_preset_is_printed_and_checked(shell: Shell) -> None:
    for line in block(PAGE, "Sizes to begin with", "sh").splitlines():
        status, printed = shell.do(line)
        assert status == 0, printed
    assert "policy.toml: valid, " in printed


@pytest.mark.controllers
def test_what_ran_out_of_memory_is_recorded_as_the_page_shows(guard: Keeper, shell: Shell) -> None:
    guard.start()
    (text,) = blocks(section(PAGE, "Check it"), "shell-session")
    (sibling, _), (eat, status), (why, expected) = transcript(text)
    assert shell.do(sibling)[0] == 0
    eventually(scope_directories)
    assert shell.do(eat)[1].splitlines()[-1] == status.strip()
    eventually(lambda: is_as_shown(shell.do(why)[1], expected))  # the keeper looks for its reason
