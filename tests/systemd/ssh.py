"""A real ssh to this machine: a server of the test's own, and how to call it."""

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

from tests.machine import eventually, text_of

PROGRAMS = ("ssh", "ssh-keygen", "dropbear", "dropbearkey")
IS_THERE = all(map(shutil.which, PROGRAMS))
HOST = "build-host"


class Ssh:
    """A dropbear on a port of its own, and a configuration of ssh's for it.

    forced is what it runs instead of each command, which is in ``$SSH_ORIGINAL_COMMAND``.
    """

    def __init__(self, folder: Path, host: str = HOST, forced: str = "") -> None:
        port = _free_port()
        self.host = host
        self.socket, self.configuration = folder / "master", folder / "config"
        key = folder / "key"
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        _call("dropbearkey", "-t", "ed25519", "-f", str(folder / "host"))
        user = pwd.getpwuid(os.getuid())
        self._keys = Path(user.pw_dir) / ".ssh" / "authorized_keys"
        self._keys.parent.mkdir(mode=0o700, exist_ok=True)
        self._line = key.with_suffix(".pub").read_text()
        with self._keys.open("a") as file:
            file.write(self._line)
        self._keys.chmod(0o600)
        self.configuration.write_text(
            f"Host {host}\nHostName 127.0.0.1\nPort {port}\nUser {user.pw_name}\n"
            f"IdentityFile {key}\nIdentitiesOnly yes\nStrictHostKeyChecking no\n"
            f"UserKnownHostsFile {folder}/known\nLogLevel ERROR\nControlPath {self.socket}\n"
        )
        log = (folder / "log").open("w")
        self._server = subprocess.Popen(
            ["dropbear", "-F", "-E", "-s", "-p", f"127.0.0.1:{port}", "-r", str(folder / "host"),
             "-P", str(folder / "pid"), *(["-c", forced] if forced else [])],
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        eventually((folder / "pid").exists)

    def words(self, *arguments: str) -> list[str]:
        """Return the words of a call of ssh."""
        return ["ssh", "-F", str(self.configuration), *arguments]

    def line(self, *arguments: str) -> str:
        return shlex.join(self.words(*arguments))

    @property
    def master(self) -> int:
        """The process that holds the connection for others; 0 if there is none."""
        done = subprocess.run(
            self.words("-O", "check", self.host), capture_output=True, text=True, timeout=60
        )
        words = done.stderr.partition("pid=")[2]
        return int(words.partition(")")[0]) if done.returncode == 0 else 0

    def close(self) -> None:
        subprocess.run(self.words("-O", "exit", self.host), capture_output=True, timeout=60)
        self._server.kill()
        self._server.wait()
        with contextlib.suppress(OSError):
            self._keys.write_text(text_of(self._keys).replace(self._line, ""))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
