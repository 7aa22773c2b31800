"""What docs/remove.md has somebody do leaves nothing, on a machine where all of it was in use."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.how_to import block, here
from tests.machine import (
    FOREVER,
    PROGRAM,
    ROOT,
    Scopekeeper,
    is_alive,
    scope_directories,
    text_of,
)

from .manager import Units, systemctl

pytestmark = pytest.mark.systemd
PAGE = "remove.md"
HOME = Path("~").expanduser()
TREES = (
    [Path("/etc/systemd"), Path("/usr/local/share"), Path("/etc/dbus-1")]
    if ROOT
    else [HOME / ".config/systemd", HOME / ".local/share"]
)
SAMPLES = Path(__file__).parents[1] / "clients"


def ours() -> set[str]:
    """Return every file of ours where `install` writes, the program's own aside."""
    return {str(path) for tree in TREES for path in tree.rglob("*scopekeeper*")}


def test_nothing_is_left(
    keeper: Scopekeeper, units: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Configurations, state and rules are in a home of the test's own; units are where they are."""
    home, before = tmp_path / "home", ours()
    state, rules = home / ".local/state/scopekeeper", home / ".config/scopekeeper"
    for client, name in (("cursor", ".cursor/mcp.json"), ("openclaw", ".openclaw/openclaw.json")):
        (home / name).parent.mkdir(parents=True)
        shutil.copy(SAMPLES / f"{client}.json", home / name)
    rules.mkdir(parents=True)
    (rules / "config.toml").write_text('[lanes.default]\nttl = "1h"\n')
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(state))
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(rules))
    monkeypatch.setenv("PATH", f"{Path(PROGRAM).parent}:{os.environ['PATH']}")
    units.write("my-gateway.service", "[Service]\nExecStart=sleep infinity\n")

    def do(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", here(line)], env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done

    settings = [f"SCOPEKEEPER_STATE={state}", f"SCOPEKEEPER_CONFIG={rules}"]
    assert systemctl("set-environment", *settings).returncode == 0
    request.addfinalizer(
        lambda: systemctl("unset-environment", "SCOPEKEEPER_STATE", "SCOPEKEEPER_CONFIG")
    )
    do("scopekeeper install --gateway my-gateway.service --shell")
    do("scopekeeper wrap && scopekeeper openclaw install --no-keeper", HOME=str(home))
    owner = keeper.popen(list(FOREVER))
    processes = [
        keeper.member("-s", "a", "--", *FOREVER),
        keeper.member(
            "-s", "b", "--lifetime", "detached", "--owner", str(owner.pid), "--", *FOREVER
        ),
    ]
    do("scopekeeper exec -d -s c -- sleep 1000")
    owner.kill()
    owner.wait()
    assert ours() > before
    assert (state / "runs").exists()

    for line in block(PAGE, "1. Let clients", "sh").splitlines():
        do(line, HOME=str(home))
    for line in block(PAGE, "2. End what", "sh").splitlines():
        do(line)
    assert not any(is_alive(process.pid) for process in processes)
    assert not scope_directories()
    do(block(PAGE, "3. Remove the keeper", "sh"))
    assert ours() == before
    do(block(PAGE, "5. Remove what", "sh"), HOME=str(home))
    listed, loaded, found = block(PAGE, "Check it", "sh").splitlines()
    assert "0 unit files listed" in subprocess.getoutput(here(listed))  # exits 1 then
    assert "\n0 loaded units listed" in f"\n{do(loaded).stdout}"
    assert do(found, HOME=str(home)).stdout == ""
    for client, name in (("cursor", ".cursor/mcp.json"), ("openclaw", ".openclaw/openclaw.json")):
        assert text_of(home / name) == (SAMPLES / f"{client}.json").read_text()
    assert systemctl("is-active", "scopekeeper.service").stdout.strip() != "active"
