"""``openclaw status`` of units that start as OpenClaw's do, from down to loaded."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import ROOT, Scopekeeper, eventually

from .manager import main_pid, systemctl

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(ROOT, reason="OpenClaw's unit is a user's"),
]

HOME = Path("~").expanduser()
UNITS = HOME / ".config/systemd/user"
RUNTIME = Path(f"/run/user/{os.getuid()}/scopekeeper")
GATEWAY = """
import json, os, subprocess, sys, time
# the main process only waits for the gateway, as OpenClaw's does when it respawns itself
child = subprocess.Popen(["openclaw-gateway", "-c", "import time; time.sleep(1e6)"],
                         executable=sys.executable)
while not os.path.exists(f"{sys.argv[1]}/loaded"):
    time.sleep(0.05)
os.makedirs(sys.argv[2], exist_ok=True)
path = f"{sys.argv[2]}/openclaw-{child.pid}.json"
with open(path + ".new", "w") as file:
    json.dump({"version": 1, "pid": child.pid, "identity": None, "openclaw": "2026.9.6"}, file)
os.rename(path + ".new", path)
child.wait()
"""


class Gateway:
    """The unit and configuration of one profile."""

    def __init__(self, scopekeeper: Scopekeeper, profile: str) -> None:
        suffix = f"-{profile}" if profile else ""
        self.unit = f"openclaw-gateway{suffix}.service"
        self.folder = HOME / f".openclaw{suffix}"
        self._options = ["--profile", profile] if profile else []
        self._scopekeeper = scopekeeper
        script = self.folder / "openclaw" / "main.py"
        script.parent.mkdir(parents=True)
        script.write_text(GATEWAY)
        (self.folder / "openclaw.json").write_text("{}")
        UNITS.mkdir(parents=True, exist_ok=True)
        start = f"{sys.executable} {script} {self.folder} {RUNTIME}"
        (UNITS / self.unit).write_text(f"[Service]\nExecStart={start}\n")
        assert systemctl("daemon-reload").returncode == 0
        done = scopekeeper.call("openclaw", "install", "--no-keeper", *self._options)
        assert done.returncode == 0, done.stderr

    def status(self) -> tuple[int, list[dict[str, str]]]:
        """Return the exit status, and what it says of gateways."""
        done = self._scopekeeper.call("openclaw", "status", "--json", *self._options)
        parts = json.loads(done.stdout)["parts"]
        return done.returncode, [part for part in parts if part["part"].startswith("gateway")]

    def remove(self) -> None:
        """Leave nothing of it."""
        systemctl("stop", self.unit)
        self._scopekeeper.call("openclaw", "uninstall", *self._options)
        (UNITS / self.unit).unlink()
        shutil.rmtree(self.folder)
        systemctl("daemon-reload")
        systemctl("reset-failed", self.unit)


@pytest.fixture
def gateways(keeper: Scopekeeper) -> Iterator[list[Gateway]]:
    """Give a gateway without a profile, and that of a profile."""
    made: list[Gateway] = []
    try:
        made.append(Gateway(keeper, ""))
        made.append(Gateway(keeper, "second"))
        yield made
    finally:
        for each in made:
            each.remove()
        for path in RUNTIME.glob("openclaw-*.json"):
            path.unlink()


def test_it_goes_from_down_to_starting_to_loaded_and_mixes_no_profiles(
    gateways: list[Gateway],
) -> None:
    first, second = gateways
    status, (found,) = first.status()
    assert (status, found["verdict"]) == (1, "off")
    assert found["fix"] == f"systemctl --user start {first.unit}"
    for each in gateways:
        assert systemctl("start", each.unit).returncode == 0
    status, (found,) = first.status()
    assert (status, found["verdict"]) == (1, "starting"), found
    for each in gateways:
        (each.folder / "loaded").touch()
        eventually(lambda each=each: each.status()[0] == 0, pause=0.3)  # type: ignore[misc]
    pids = set()
    for each in gateways:
        _, (found,) = each.status()
        assert found["verdict"] == "ok"
        pid = int(found["part"].split()[1])
        assert pid != main_pid(each.unit), "the plugin is in the process that it started"
        pids.add(pid)
    assert len(pids) == 2
    assert systemctl("stop", second.unit).returncode == 0
    assert second.status()[1][0]["verdict"] == "off"
    assert first.status()[0] == 0
