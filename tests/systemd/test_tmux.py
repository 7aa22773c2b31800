"""Windows of a real tmux: whose they are, and what ends with whom."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.how_to import block
from tests.machine import (
    ROOT,
    SHELL,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    record_of,
    scope_directory,
)
from tests.terminal import Terminal

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed"),
]

SOMETHING = "exec sleep infinity"
OURS = f"set -g default-shell {SHELL}\n"
ITS_SESSION = "set -ga update-environment SCOPEKEEPER_SESSION\n"


class Tmux:
    """A tmux with a configuration and a socket of its own, called from several sessions."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SCOPEKEEPER_", "TMUX"))
        } | {
            "HOME": str(home),
            "TMUX_TMPDIR": str(home),
            "TERM": "screen",
            "SCOPEKEEPER_SHELL": "/bin/sh",
            "SCOPEKEEPER_STATE": str(home / "state"),
        }

    def configure(self, text: str) -> None:
        (self.home / ".tmux.conf").write_text(text)

    def by(self, session: str, command: str, **more: str) -> str:
        """Do a command as a gateway does one of a session's."""
        done = subprocess.run(
            [SHELL, "-c", command], env=self.variables | {"SCOPEKEEPER_SESSION": session} | more,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(self, *words: str, **more: str) -> str:
        return subprocess.run(
            ["tmux", *words], env=self.variables | more, capture_output=True, text=True, timeout=300
        ).stdout

    def panes(self, name: str) -> list[int]:
        """Return the first process of each pane of a session of tmux's."""
        listed = self.call("list-panes", "-a", "-F", "#{session_name} #{pane_pid}")
        pairs = (line.split() for line in listed.splitlines())
        return [int(pid) for of, pid in pairs if of == name]

    def pane(self, name: str) -> int:
        (pid,) = self.panes(name)
        return pid

    @property
    def server(self) -> int:
        return int(self.call("display-message", "-p", "#{pid}"))

    def shows(self, name: str) -> str:
        """Return what a session's window shows, in one line."""
        return self.call("capture-pane", "-p", "-J", "-t", f"{name}:")


@pytest.fixture
def tmux(keeper: Scopekeeper, tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(tmp_path)
    yield made
    made.call("kill-server")
    assert keeper


@pytest.fixture
def sessions(session: str) -> tuple[str, str]:
    """Name two sessions."""
    return f"{session}:A", f"{session}:B"


def belongs_to(pid: int) -> str:
    """Return the session in whose scope a process is, '' if it is in none."""
    scope = os.path.dirname(directory_of(pid))
    return record_of(scope).get("SESSION", "") if scope.endswith(".scope") else ""


def settles_in(pid: int, session: str) -> None:
    eventually(lambda: belongs_to(pid) == session)


def by_the_book(tmux: Tmux, founder: str) -> None:
    """Follow the page, in a command of a session."""
    conf = block("shared-daemons.md", "tmux", "")
    assert "/usr/bin/scopekeeper-shell" in conf
    tmux.configure(conf.replace("/usr/bin/scopekeeper-shell", SHELL))
    tmux.by(founder, block("shared-daemons.md", "tmux", "sh"))


def test_in_a_server_of_its_own_a_session_ends_with_its_windows_and_no_others(
    keeper: Scopekeeper, tmux: Tmux, sessions: tuple[str, str]
) -> None:
    by_the_book(tmux, sessions[0])
    server, gateway = tmux.server, str(os.getpid())
    assert belongs_to(server) == "tmux"
    for name, session in zip("ab", sessions, strict=True):
        more = {"SCOPEKEEPER_OWNER": gateway, "SCOPEKEEPER_LANE": f"lane-{name}"}
        tmux.by(session, f"tmux new-session -d -s {name} '{SOMETHING}'", **more)
        tmux.by(session, f"tmux new-window -d -t {name}: '{SOMETHING}'")
        for pane in tmux.panes(name):
            settles_in(pane, session)
            fields = record_of(os.path.dirname(directory_of(pane)))
            assert (fields["KIND"], fields["LANE"]) == ("pty", f"lane-{name}")
            assert fields["OWNER_PID"] == gateway
        assert "warning" not in tmux.shows(name)
    mine, others = tmux.panes("a"), tmux.panes("b")
    assert len(mine) == len(others) == 2
    assert keeper.call("stop", "-s", sessions[0]).returncode == 0
    assert not any(map(is_alive, mine))
    assert all(map(is_alive, (server, *others)))
    assert keeper.call("stop", "-s", sessions[1]).returncode == 0
    assert not any(map(is_alive, others))
    assert is_alive(server)
    assert keeper.call("stop", "-s", "tmux").returncode == 0
    assert not is_alive(server)


def test_a_window_is_of_the_session_that_opened_its_session_of_tmux_or_attached_to_it(
    tmux: Tmux, sessions: tuple[str, str]
) -> None:
    by_the_book(tmux, sessions[0])
    tmux.by(sessions[0], f"tmux new-session -d -s a '{SOMETHING}'")
    tmux.by(sessions[1], f"tmux new-window -d -t a: '{SOMETHING}'")
    before = tmux.panes("a")
    assert len(before) == 2
    for pane in before:
        settles_in(pane, sessions[0])
    variables = tmux.variables | {"SCOPEKEEPER_SESSION": sessions[1]}
    other = Terminal(["tmux", "attach", "-t", "a"], environment=variables)
    try:
        other.expect(r"\[a\]")
        tmux.by(sessions[0], f"tmux new-window -d -t a: '{SOMETHING}'")
        (after,) = set(tmux.panes("a")) - set(before)
        settles_in(after, sessions[1])
    finally:
        other.end()


def test_with_a_folder_for_each_session_each_has_a_server_that_ends_with_it(
    keeper: Scopekeeper, tmux: Tmux, sessions: tuple[str, str]
) -> None:
    tmux.configure(OURS)
    found = []
    for name, session in zip("ab", sessions, strict=True):
        folder = tmux.home / name
        folder.mkdir()
        tmux.variables["TMUX_TMPDIR"] = str(folder)
        tmux.by(session, f"tmux new-session -d -s {name} '{SOMETHING}'")
        found.append((tmux.server, tmux.pane(name)))
        settles_in(tmux.pane(name), session)
    assert keeper.call("stop", "-s", sessions[0]).returncode == 0
    eventually(lambda: not any(map(is_alive, found[0])))
    assert all(map(is_alive, found[1]))


def test_where_another_session_started_the_server_a_window_warns_and_ends_with_that(
    keeper: Scopekeeper, tmux: Tmux, sessions: tuple[str, str]
) -> None:
    tmux.configure(OURS + ITS_SESSION)
    for name, session in zip("ab", sessions, strict=True):
        tmux.by(session, f"tmux new-session -d -x 300 -s {name}")
        settles_in(tmux.pane(name), session)
    server, other = tmux.server, tmux.pane("b")
    words = eventually(lambda: re.search(r"warning: .*", tmux.shows("b")))[0]
    assert f"ends with session {sessions[0]}" in words
    assert f"(pid {server})" in words
    assert "warning" not in tmux.shows("a")
    assert keeper.call("stop", "-s", sessions[0]).returncode == 0
    assert not is_alive(server)
    eventually(lambda: not is_alive(other))  # its terminal has gone


def test_without_its_variables_a_window_is_of_the_session_that_started_the_server(
    keeper: Scopekeeper, tmux: Tmux, sessions: tuple[str, str]
) -> None:
    tmux.configure(OURS)
    for name, session in zip("ab", sessions, strict=True):
        tmux.by(session, f"tmux new-session -d -s {name} '{SOMETHING}'")
        settles_in(tmux.pane(name), sessions[0])
    other = tmux.pane("b")
    assert keeper.call("stop", "-s", sessions[0]).returncode == 0
    assert not is_alive(other)
    assert not scope_directory(sessions[1])


def moves_its_panes(pid: int) -> bool:
    """Wait until tmux is done with a pane; return whether it has moved it."""
    eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    return "/tmux-spawn-" in cgroup_of(pid)


def test_a_window_of_another_shell_that_tmux_moved_is_listed_and_named_by_stop(
    keeper: Scopekeeper, tmux: Tmux, session: str
) -> None:
    """From 3.4 on, where the user has a manager; else it stays in its server's member."""
    tmux.configure("")
    tmux.by(session, f"tmux new-session -d -s a 'trap \"\" HUP; {SOMETHING}'")
    server, pane = tmux.server, tmux.pane("a")
    assert belongs_to(server) == session
    moved = moves_its_panes(pane)
    listed = keeper.call("ls", "--escaped").stdout
    assert (f" {pane} " in listed) is moved
    done = keeper.call("stop", "-s", session)
    assert not is_alive(server)
    assert is_alive(pane) is moved
    assert done.returncode == (6 if moved else 0), done.stdout
    assert (f"pid {pane} in {cgroup_of(pane)}: " in done.stdout) is moved
    if moved:
        os.kill(pane, 9)


class SlowBus:
    """A bus that answers late, as on a busy machine; another one's clients are not kept waiting."""

    def __init__(self, path: Path, real: str, seconds: float) -> None:
        self.address = f"unix:path={path}"
        self.used = False
        self._real, self._seconds = real, seconds
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            self.used = True
            time.sleep(self._seconds)
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._real)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.mark.skipif(ROOT, reason="root has no manager of her own here, which tmux would ask")
@pytest.mark.parametrize("launched_by", ["our shell", "run"])
def test_a_window_stays_in_its_scope_however_late_tmux_asks_for_another(
    keeper: Scopekeeper, tmux: Tmux, session: str, launched_by: str
) -> None:
    ours = launched_by == "our shell"
    run = shlex.join(keeper.argv("-s", session, "--", "sleep", "infinity"))
    real = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}") + "/bus"
    slow = SlowBus(tmux.home / "bus", real, 0.5)
    try:
        tmux.configure(OURS if ours else "set -g default-shell /bin/sh\n")
        words = SOMETHING if ours else f"exec {run}"
        tmux.by(
            f"{session}:founder",
            f"tmux new-session -d -s a -e DBUS_SESSION_BUS_ADDRESS=unix:path={real} "
            f"-e SCOPEKEEPER_SESSION={session} '{words}'",
            DBUS_SESSION_BUS_ADDRESS=slow.address,
        )
        pane = tmux.pane("a")
        settles_in(pane, session)
        eventually(lambda: tmux.call("display-message", "-p", "done") == "done\n")
        assert belongs_to(pane) == session, cgroup_of(pane)
        version = float(re.search(r"\d+\.\d", tmux.call("-V"))[0])
        assert slow.used or version < 3.4
    finally:
        slow.close()
