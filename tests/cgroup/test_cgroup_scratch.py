"""`run --scratch` without systemd: its folder is removed with the member there, too."""

import json
import os
from pathlib import Path

import pytest

from tests.machine import FOREVER, Scopekeeper, environment_of, eventually, wait_for_command

pytestmark = pytest.mark.root


def test_it_is_there_for_the_command_and_gone_after_it(
    keeper: Scopekeeper, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "place").mkdir()
    monkeypatch.setenv("SCOPEKEEPER_SCRATCH", str(tmp_path / "place"))
    line = 'echo x >"$TMPDIR/x"; exec "$@"'
    member = keeper.member("-s", session, "--scratch", "--", "sh", "-c", line, "sh", *FOREVER)
    wait_for_command(member)
    path = environment_of(member.pid)["TMPDIR"]
    eventually(lambda: os.listdir(path) == ["x"])
    (scope,) = keeper.scopes("-s", session)
    assert scope["members"][0]["scratch_bytes"] == 4096
    assert json.loads(keeper.call("reconcile", "--json").stdout)["owned"] == []
    assert keeper.call("stop", "-s", session).returncode == 0
    assert not os.path.exists(path)
    (end,) = json.loads(keeper.call("history", "-s", session, "--json").stdout)["ends"]
    assert end["scratch_bytes"] == 4096
