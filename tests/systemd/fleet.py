"""Several hosts for ``-H``: all of them are this machine, each with a server of its own that gives
commands another environment."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import PROGRAM, ROOT, Scopekeeper, text_of

from .ssh import Network, Ssh

COMMAND = 'eval "$SSH_ORIGINAL_COMMAND"'
SLOW = "echo $$ >>{0}/waiting; while ! [ -e {0}/go ]; do sleep 0.02; done; " + COMMAND
NEWER = """#!/bin/sh
case "$*" in *ps*) echo "scopekeeper: No such command 'ps'; see x" >&2; exit 2;; esac
echo '{"version": 2, "scopes": []}'
"""


class Fleet:
    """The servers, and the ssh that finds them.

    As root, each is in a network namespace of its own, and one is a machine without power: nothing
    comes back from it. As a user they are ports of this machine, and nothing is at one of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._made = folder, 0
        self.bin = folder / "bin"
        self.bin.mkdir()
        state = f"export PATH={Path(PROGRAM).parent}:$PATH SCOPEKEEPER_STATE={folder}/state; "
        for name in ("bare", "newer"):
            (folder / f"{name}-bin").mkdir()
            (folder / f"{name}-bin" / "sh").symlink_to("/bin/sh")
        (folder / "newer-bin" / "scopekeeper").write_text(NEWER)
        (folder / "newer-bin" / "scopekeeper").chmod(0o755)
        without = "export PATH={0} HOME={0}; echo Welcome; " + COMMAND
        plain = state + COMMAND
        self.servers = [
            self._server("one", plain),
            self._server("two", plain),
            self._server("slow", state + SLOW.format(folder)),
            self._server("bare", without.format(folder / "bare-bin")),
            self._server("newer", without.format(folder / "newer-bin")),
        ]
        self._down = self._network(9)
        configuration = folder / "config"
        parts = [text_of(each.configuration) for each in self.servers]
        where = "HostName 127.0.0.1\nPort 1"
        if self._down is not None:
            self._down.cut()
            where = f"HostName {self._down.address}"
        down = f"Host down\n{where}\nLogLevel ERROR\n"
        configuration.write_text("\n".join([*parts, down]))
        (self.bin / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {configuration} "$@"\n')
        (self.bin / "ssh").chmod(0o755)

    @property
    def has_networks(self) -> bool:
        return self._down is not None

    def _server(self, host: str, forced: str) -> Ssh:
        (self.folder / host).mkdir()
        self._made += 1
        return Ssh(self.folder / host, host, forced, self._network(self._made))

    def _network(self, number: int) -> Network | None:
        return Network(number) if ROOT and shutil.which("ip") else None

    def close(self) -> None:
        (self.folder / "go").touch()
        for each in self.servers:
            each.close()
        if self._down is not None:
            self._down.close()


@pytest.fixture
def fleet(keeper: Scopekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    assert keeper
    made = Fleet(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(tmp_path / "rules"))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "hosts.toml").write_text('[groups]\nboth = ["one", "two"]\n')
    yield made
    made.close()
