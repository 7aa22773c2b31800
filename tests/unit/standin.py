"""A stand-in for the keeper, which says to a client what a test wants it to say."""

import contextlib
import dataclasses
import os
import pathlib
import socket
import struct
import threading
import time
from typing import Any

from scopekeeper.exec import protocol
from scopekeeper.exec.protocol import Frames
from scopekeeper.exec.run import Run
from tests.machine import PATIENCE


def a_run(**values: Any) -> Run:
    known = {
        "id": "1a2b3c4d",
        "session": "s",
        "lane": "main",
        "name": "m1",
        "argv": ("sh",),
        "started": 1,
        "boot_id": "b",
    }
    return Run(**{**known, **values})


class Keeper:
    """Serves one client, in a thread; ``heard`` is all that it sent, in order."""

    def __init__(self, path: pathlib.Path, run: Run) -> None:
        self.run = run
        self.heard: list[tuple[bytes, bytes]] = []
        self.asked: dict[str, Any] = {}
        self.listens = True
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._client: socket.socket | None = None
        self._attached = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.close()
        if self._client is not None:
            self._client.close()

    def kill(self) -> None:
        """Go away as a process that is killed does."""
        self._attached.wait(PATIENCE)
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.shutdown(socket.SHUT_RDWR)

    def attached(self) -> None:
        assert self._attached.wait(PATIENCE)

    def write(self, data: bytes) -> None:
        self.attached()
        for at in range(0, len(data), 50_000):
            self._client.sendall(protocol.frame(protocol.DATA, data[at : at + 50_000]))

    def say(self, **values: object) -> None:
        self.attached()
        self._client.sendall(protocol.message(**values))

    def end(self, **values: Any) -> None:
        self.say(ended={"at": 1, "reason": "exited", "evidence": "", "exit_status": 0, **values})

    @property
    def typed(self) -> bytes:
        return b"".join(payload for kind, payload in self.heard if kind == protocol.DATA)

    def wait_for(self, wanted: tuple[bytes, bytes]) -> None:
        end = time.monotonic() + PATIENCE
        while wanted not in self.heard:
            assert time.monotonic() < end, self.heard
            time.sleep(0.01)

    def wait_typed(self, wanted: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while wanted not in self.typed:
            assert time.monotonic() < end, self.heard
            time.sleep(0.01)

    def _serve(self) -> None:
        self._client, _ = self._server.accept()
        frames = Frames()
        while True:
            while not self.listens:
                time.sleep(0.05)
            try:
                data = self._client.recv(1 << 16)
            except OSError:
                return
            if not data:
                self.heard.append((b"", b""))
                self._over()
                return
            for kind, payload in frames.feed(data):
                if not self.asked:
                    self._begin(protocol.parse(payload))
                else:
                    self.heard.append((kind, payload))

    def _begin(self, request: dict[str, Any]) -> None:
        self.asked = request
        answer = {"run": dataclasses.asdict(self.run), "from": max(request.get("from", 0), 0)}
        self._client.sendall(protocol.message(ok=True, **answer))
        self._attached.set()

    def _over(self) -> None:
        if self.asked["do"] == "send":
            with contextlib.suppress(BrokenPipeError):  # who has heard of a problem has left
                self._client.sendall(protocol.message(ok=True, bytes=len(self.typed)))
            self._client.close()


STANDIN_LOG = """
import os, sys, types
log = types.ModuleType("scopekeeper.exec.log")
def end(folder):
    try:
        return os.stat(folder / "output").st_size
    except OSError:
        return 0
def read(folder, position, most):
    with open(folder / "output", "rb") as file:
        file.seek(position)
        return position, file.read(most)
log.end, log.read = end, read
import scopekeeper.exec
scopekeeper.exec.log = sys.modules["scopekeeper.exec.log"] = log
from scopekeeper.exec import client
client.address = lambda: os.environ["STANDIN"]
client.RESTART = float(os.environ.get("STANDIN_RESTART", client.RESTART))
from scopekeeper.cli.main import main
main()
"""


def path_without_keeper(folder: pathlib.Path) -> str:
    """Return a PATH whose ``scopekeeper`` starts no keeper."""
    program = folder / "bin" / "scopekeeper"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\necho no keeper here >&2\nexit 1\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def environment(folder: pathlib.Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": path_without_keeper(folder),
        "STANDIN": str(folder / "keeper"),
        "SCOPEKEEPER_STATE": str(folder / "state"),
        "SCOPEKEEPER_DEBUG": "",
    }
