"""A real ssh to this machine: a server of the test's own, and how to call it."""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.machine import eventually, text_of

PROGRAMS = ("ssh", "ssh-keygen", "dropbear", "dropbearkey")
IS_THERE = all(map(shutil.which, PROGRAMS))
HOST = "build-host"


class Network:
    """A network namespace with an address of its own, for root: its host is reached over a veth.

    The kernel of a lab's machine need not have netem: what is slow there is the shell of a host.
    """

    def __init__(self, number: int) -> None:
        self.name = f"scopekeeper-{os.getpid()}-{number}"
        self.address = f"10.213.{number}.2"
        near, far = f"sk{number}a", f"sk{number}b"
        self._near, self._far = near, far
        _call("ip", "netns", "add", self.name)
        _call("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
        _call("ip", "address", "add", f"10.213.{number}.1/24", "dev", near)
        _call("ip", "link", "set", near, "up")
        _call("ip", "-n", self.name, "address", "add", f"{self.address}/24", "dev", far)
        self.join()

    def join(self) -> None:
        _call("ip", "-n", self.name, "link", "set", self._far, "up")

    def cut(self) -> None:
        """Drop every packet from now on, as a machine that has lost its power."""
        _call("ip", "-n", self.name, "link", "set", self._far, "down")

    def words(self) -> list[str]:
        """Return what runs a command in it; ``ip netns exec`` would hide the cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def close(self) -> None:
        _call("ip", "link", "delete", self._near)
        _call("ip", "netns", "delete", self.name)


class Ssh:
    """A dropbear at an address or a port of its own, and a configuration of ssh's for it.

    forced is what it runs instead of each command, which is in ``$SSH_ORIGINAL_COMMAND``.
    """

    def __init__(
        self, folder: Path, host: str = HOST, forced: str = "", network: Network | None = None
    ) -> None:
        self.host, self.network = host, network
        address, port = ("127.0.0.1", _free_port()) if network is None else (network.address, 22)
        self.socket, self.configuration = folder / "master", folder / "config"
        self._folder = folder
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
            f"Host {host}\nHostName {address}\nPort {port}\nUser {user.pw_name}\n"
            f"IdentityFile {key}\nIdentitiesOnly yes\nStrictHostKeyChecking no\n"
            f"UserKnownHostsFile {folder}/known\nLogLevel ERROR\nControlPath {self.socket}\n"
        )
        self._words = [
            *(network.words() if network is not None else []),
            "dropbear", "-F", "-E", "-s", "-p", f"{address}:{port}", "-r", str(folder / "host"),
            "-P", str(folder / "pid"), *(["-c", forced] if forced else []),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        with (self._folder / "log").open("a") as log:
            self._server = subprocess.Popen(self._words, stdout=log, stderr=log)
        eventually((self._folder / "pid").exists)

    def stop(self) -> None:
        """End the server and its connections."""
        if self._server.poll() is not None:
            return
        pid = self._server.pid
        connections = text_of(f"/proc/{pid}/task/{pid}/children").split()
        self._server.kill()
        self._server.wait()
        (self._folder / "pid").unlink(missing_ok=True)
        for each in connections:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(each), signal.SIGKILL)

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
        self.stop()
        if self.network is not None:
            self.network.close()
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
