"""What a Prometheus is given is what the kernel has, by the command and from the keeper."""

import contextlib
import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.docs.how_to import block, section
from tests.machine import (
    FOREVER,
    PATIENCE,
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    directory_of,
    eventually,
    is_alive,
    processes,
    text_of,
)
from tests.scraping import Metrics, free_port, scrape

from .guard import UNIT, Keeper
from .installed import UNIT as INSTALLED_UNIT
from .installed import Installed
from .manager import Units, state, systemctl, systemd_run_argv, uid_of

pytestmark = pytest.mark.systemd

PAGE = "metrics.md"
USER = pwd.getpwuid(os.getuid()).pw_name
RUNTIME = Path("/run/scopekeeper" if ROOT else f"/run/user/{os.getuid()}/scopekeeper")
SOCKET = RUNTIME / "metrics"
CPU = "scopekeeper_session_cpu_seconds_total"
LOOP = ("sh", "-c", "while :; do :; done")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state of this test's own: its history, and its failed launches."""
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "own-state"))


def test_the_first_line_of_the_page_prints_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / PAGE).read_text(encoding="utf-8")
    path = f"{Path(PROGRAM).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", blocks(page, "sh")[0]], env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert Metrics(done.stdout).get("scopekeeper_build_info") == 1


def printed(keeper: Scopekeeper, *arguments: str) -> Metrics:
    done = keeper.call("metrics", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return Metrics(done.stdout)


@pytest.mark.usefixtures("own")
def test_it_prints_what_the_kernel_has(keeper: Scopekeeper, session: str) -> None:
    lanes = ("main", "main", "cron:daily")
    ours = [keeper.member("-s", session, "-l", each, "--kind", "exec", "--", *FOREVER)
            for each in lanes]  # fmt: skip
    busy = keeper.member("-s", f"{session}-2", "--", *LOOP)
    members = {session: ours, f"{session}-2": [busy]}
    found = printed(keeper)
    for name, started in members.items():
        scopes = {os.path.dirname(directory_of(each.pid)) for each in started}
        inside = set().union(*map(processes, scopes))
        assert {each.pid for each in started} == inside
        of_it = {"session": name, "user": USER}
        assert found.get("scopekeeper_session_processes", **of_it) == len(inside)
        memory = [text_of(f"{each}/memory.current") for each in scopes]
        shown = found.get("scopekeeper_session_memory_bytes", **of_it)
        assert (shown is not None) is all(memory)
        assert shown is None or shown > 4096 * len(scopes)
        shown = found.get("scopekeeper_session_pressure_ratio", resource="cpu", **of_it)
        assert (shown is not None) is all(text_of(f"{each}/cpu.pressure") for each in scopes)
    cron = {"lane": "cron", "kind": "exec", "state": "running", "user": USER}
    assert found.get("scopekeeper_scopes", **cron) == 1
    assert found.get("scopekeeper_members", state="running", user=USER) == 4
    assert found.get("scopekeeper_keeper_running", user=USER) == 0


@pytest.mark.usefixtures("own")
def test_the_cpu_time_of_a_session_goes_on_when_one_of_its_scopes_has_ended(
    keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    def used(directory: str) -> float:
        return int(re.search(r"usage_usec (\d+)", text_of(f"{directory}/cpu.stat"))[1]) / 1e6

    keeper.member("-s", session, "-l", "a", "--", *FOREVER)
    busy = keeper.member("-s", session, "-l", "b", "--", *LOOP)
    loop = os.path.dirname(directory_of(busy.pid))
    eventually(lambda: used(loop) > 1)
    file = tmp_path / "x.prom"
    assert keeper.call("metrics", "--textfile", str(file)).returncode == 0
    before = Metrics(file.read_text()).get(CPU, session=session)
    assert before >= 1
    assert keeper.call("stop", "-s", session, "-l", "b").returncode == 0
    assert keeper.call("metrics", "--textfile", str(file)).returncode == 0
    after = Metrics(file.read_text()).get(CPU, session=session)
    assert before <= after < before + 60


@pytest.mark.usefixtures("own")
def test_what_lost_its_owner_ends_and_fails_is_counted(keeper: Scopekeeper, session: str) -> None:
    owner = keeper.popen(list(FOREVER))
    keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    keeper.member("-s", f"{session}-2", "--", *FOREVER)
    assert printed(keeper).get("scopekeeper_members", state="orphan") is None
    owner.kill()
    owner.wait()
    found = printed(keeper)
    assert found.get("scopekeeper_members", state="orphan") == 1
    assert found.get("scopekeeper_scopes", state="orphan", lane="main") == 1
    assert found.get("scopekeeper_ends_total") == 0
    assert found.get("scopekeeper_launches_failed_total") == 0
    assert keeper.call("stop", "-s", f"{session}-2").returncode == 0
    assert keeper.call("reconcile", "-s", session).returncode == 0
    assert keeper.run("-s", session, "--", "/nonexistent").returncode == 127
    assert keeper.run("-s", session, "--placement", "cgroup:/proc", "--", "true").returncode == 125
    assert keeper.run("-s", session, "--lifetime", "wrong", "--", "true").returncode == 125
    found = printed(keeper)
    assert found.get("scopekeeper_members", state="orphan") is None
    assert found.get("scopekeeper_ends_total", reason="stopped by request") == 1
    assert found.get("scopekeeper_ends_total", reason="owner gone") == 1
    assert found.get("scopekeeper_ends_total") == 2
    assert found.get("scopekeeper_launches_failed_total", error="command") == 1
    assert found.get("scopekeeper_launches_failed_total") >= 2


@pytest.mark.usefixtures("own")
def test_what_nobody_talks_to_and_what_left_its_scope_is_counted(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    unit, file = f"runaway-{session[-8:]}.scope", tmp_path / "pid"
    units.adopt(unit)
    leave = shlex.join(systemd_run_argv("--scope", "--collect", f"--unit={unit}", *FOREVER))
    script = f"{leave} & echo $! > {file}; exec sleep 1000"
    keeper.member("-s", session, "--kind", "exec", "--", "sh", "-c", script)
    pid = int(eventually(lambda: text_of(file)))
    eventually(lambda: unit in cgroup_of(pid) and text_of(f"/proc/{pid}/comm") == "sleep\n")
    server = keeper.member("-s", session, "--kind", "mcp", "--", *FOREVER, stdin=subprocess.PIPE)
    found = printed(keeper)
    assert found.get("scopekeeper_escaped_processes", user=USER) == 1
    assert found.get("scopekeeper_members", state="abandoned") is None
    server.stdin.close()
    found = eventually(lambda: (now := printed(keeper)).get("scopekeeper_members",
                                                            state="abandoned") and now)  # fmt: skip
    assert found.get("scopekeeper_members", state="abandoned") == 1
    assert found.get("scopekeeper_members", state="running") == 1


@pytest.mark.usefixtures("own")
def test_hostile_names_are_escaped_and_the_rest_is_summed(
    keeper: Scopekeeper, session: str
) -> None:
    names = [f'{session}"}} 1\n# EOF\nx\\', f"{session}\x1b[31m", f"{session}ä" + "x" * 200]
    for name in (*names, "other"):
        keeper.member("-s", name, "--", *FOREVER)
    for form in ("openmetrics", "text"):
        found = printed(keeper, "--format", form)
        values = found.values("scopekeeper_session_processes", "session")
        assert len(values) == len(names) + 1
        assert all(value.isprintable() and len(value) <= 100 for value in values)
        assert found.get("scopekeeper_session_processes", session="other") == 1
    found = printed(keeper, "--sessions", "1")
    assert len(found.values("scopekeeper_session_processes", "session")) == 2
    assert found.get("scopekeeper_session_processes", session="other") == 3
    assert found.get("scopekeeper_session_processes") == 4


# From the keeper


def asked(where: str | Path | int) -> Metrics:
    """Return what a keeper serves, once it does."""

    def try_it() -> Metrics | None:
        with contextlib.suppress(OSError):
            return scrape(where)
        return None

    found = eventually(try_it)
    assert found is not None
    return found


def test_a_keeper_serves_them_and_itself_on_a_socket_of_its_user(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start("--metrics", "unix")
    keeper.member("-s", session, "--", *FOREVER)
    eventually(lambda: asked(SOCKET).get("scopekeeper_keeper_watched_scopes") == 1)
    found = asked(SOCKET)
    assert found.get("scopekeeper_session_processes", session=session, user=USER) == 1
    assert found.get("scopekeeper_keeper_running", user=USER) == 1
    assert found.get("scopekeeper_keeper_policy_valid", user=USER) == 1
    assert found.get("process_start_time_seconds") > 1e9
    assert SOCKET.lstat().st_mode & 0o7777 == 0o600
    assert SOCKET.lstat().st_uid == os.getuid()
    guard.policy("wrong = 1\n")
    eventually(lambda: asked(SOCKET).get("scopekeeper_keeper_policy_valid") == 0)
    assert asked(SOCKET).get("scopekeeper_keeper_log_messages_total", level="error") == 1
    if ROOT and uid_of("other") > 0:
        as_other = ["setpriv", "--reuid=other", "--clear-groups", "python3", "-c", (
            f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(SOCKET)!r})"
        )]  # fmt: skip
        done = subprocess.run(as_other, capture_output=True, text=True)
        assert "PermissionError" in done.stderr


def test_what_a_keeper_has_counted_goes_on_after_it_was_killed(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    guard.start("--metrics", "unix")
    owner = keeper.popen(list(FOREVER))
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    asked(SOCKET)
    owner.kill()
    owner.wait()
    assert member.wait(PATIENCE) == -signal.SIGTERM
    gone = {"reason": "owner gone", "user": USER}
    eventually(lambda: asked(SOCKET).get("scopekeeper_ends_total", **gone) == 1)
    assert asked(SOCKET).get("scopekeeper_keeper_orphans_found_total") == 1
    before = guard.pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: guard.pid not in (0, before))
    eventually(lambda: asked(SOCKET).get("scopekeeper_keeper_orphans_found_total") == 0)
    assert asked(SOCKET).get("scopekeeper_ends_total", **gone) == 1
    assert systemctl("stop", UNIT).returncode == 0
    assert not SOCKET.exists()


def test_a_port_that_is_taken_is_one_line_and_the_keeper_does_its_work(
    guard: Keeper, keeper: Scopekeeper, session: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        guard.start("--metrics", str(port))
        owner = keeper.popen(list(FOREVER))
        member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
        owner.kill()
        owner.wait()
        assert member.wait(PATIENCE) == -signal.SIGTERM
        pid = guard.pid
        assert is_alive(pid)
        lines = eventually(lambda: [
            line for line in journal_of(pid) if "no metrics are served" in line
        ])  # fmt: skip
    assert len(lines) == 1
    assert f"127.0.0.1:{port} is taken by another process" in lines[0]


def journal_of(pid: int) -> list[str]:
    done = subprocess.run(
        ["journalctl", "--no-pager", "-o", "cat", f"_PID={pid}"], capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_an_address_that_is_none_is_wrong_usage(keeper: Scopekeeper) -> None:
    for options in (["--metrics", "nowhere:1"], ["--metrics", "1", "--metrics-sessions", "-1"]):
        done = keeper.call("keeper", *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_without_being_told_it_serves_nothing_and_imports_no_library(
    guard: Keeper, keeper: Scopekeeper
) -> None:
    SOCKET.unlink(missing_ok=True)  # of a keeper that was killed
    guard.start()
    maps = text_of(f"/proc/{guard.pid}/maps")
    assert not SOCKET.exists()
    assert "_ssl" not in maps
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True).stdout
    assert f"pid={guard.pid}," not in listening


# As the page has it


def here(text: str, path: str) -> str:
    """Return lines or a unit of the page as this machine and this user need them."""
    if ROOT:
        text = text.replace("systemctl --user ", "systemctl ")
        text = text.replace("default.target", "multi-user.target")
        text = text.replace("~/.config/systemd/user", "/etc/systemd/system")
        text = text.replace("AF_INET\n", "AF_INET\nIPAddressAllow=localhost\n")
    return text.replace("9464", path)


@pytest.fixture
def page_drop_in(installed: Installed) -> Iterator[Path]:
    """The folder of the drop-in; nothing is enabled or left afterwards."""
    folder = Path("/etc/systemd/system" if ROOT else "~/.config/systemd/user").expanduser()
    folder /= f"{INSTALLED_UNIT}.d"
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    assert installed
    yield folder
    systemctl("disable", INSTALLED_UNIT)
    (folder / "metrics.conf").unlink(missing_ok=True)
    systemctl("daemon-reload")
    for each in made:
        with contextlib.suppress(OSError):
            each.rmdir()


def test_the_keeper_serves_a_port_as_the_page_has_it(
    page_drop_in: Path, installed: Installed, keeper: Scopekeeper, session: str
) -> None:
    port = free_port()
    (ini,) = blocks(section(PAGE, "By the keeper"), "ini")
    (page_drop_in / "metrics.conf").write_text(here(ini, str(port)))
    start, _ = blocks(section(PAGE, "By the keeper"), "sh")
    for line in here(start, str(port)).splitlines():
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    assert asked(port).get("scopekeeper_keeper_running", user=USER) == 1
    wanted = systemctl("show", "--value", "--property=WantedBy", INSTALLED_UNIT).stdout
    assert wanted.strip() == ("multi-user.target" if ROOT else "default.target")
    first = installed.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: installed.pid not in (0, first))
    keeper.member("-s", session, "--", *FOREVER)
    found = asked(port)
    assert found.get("scopekeeper_session_processes", session=session) == 1
    undo, _ = blocks(section(PAGE, "Undo it"), "sh")
    for line in here(undo, str(port)).splitlines():
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    assert not (page_drop_in / "metrics.conf").exists()
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_without_the_address_family_the_line_says_what_to_add(
    installed: Installed, keeper: Scopekeeper
) -> None:
    installed.write(SCOPEKEEPER_METRICS="9464")
    assert systemctl("start", INSTALLED_UNIT).returncode == 0
    pid = installed.pid
    (line,) = eventually(lambda: [x for x in journal_of(pid) if "no metrics are served" in x])
    assert "add AF_INET" in line
    assert state(INSTALLED_UNIT) == "active"


@pytest.mark.parametrize(("name", "value", "problem"), [
    ("SCOPEKEEPER_METRICS", "localhost:9464", "'localhost' is a name"),
    ("SCOPEKEEPER_METRICS_SESSIONS", "many", "'many' is no whole number"),
])  # fmt: skip
def test_a_wrong_setting_of_metrics_is_a_line_and_scopes_are_watched(
    installed: Installed, keeper: Scopekeeper, session: str, name: str, value: str, problem: str
) -> None:
    settings = {"SCOPEKEEPER_METRICS": "unix", name: value}
    installed.write(**settings)  # type: ignore[arg-type]
    assert systemctl("start", INSTALLED_UNIT).returncode == 0
    (line,) = eventually(lambda: [x for x in journal_of(installed.pid) if name in x])
    assert problem in line
    owner = keeper.popen(["sleep", "1000"])
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    eventually(lambda: not is_alive(member.pid))


LAB = uid_of("lab")


@pytest.mark.root
@pytest.mark.skipif(LAB < 0, reason="there is no other user to test with")
def test_root_has_those_of_every_user_and_the_timer_of_the_page_writes_them(
    keeper: Scopekeeper, session: str, units: Units, tmp_path: Path
) -> None:
    as_lab = ["setpriv", "--reuid=lab", "--regid=lab", "--init-groups", "env",
              f"XDG_RUNTIME_DIR=/run/user/{LAB}", "HOME=/home/lab"]  # fmt: skip
    keeper.member("-s", session, "--", *FOREVER)
    theirs = keeper.popen([*as_lab, *keeper.argv("-s", session, "--", *FOREVER)],
                          stdin=subprocess.DEVNULL)  # fmt: skip
    collected = tmp_path / "node-exporter"
    collected.mkdir()
    names = ("scopekeeper-metrics.service", "scopekeeper-metrics.timer")
    paths = [Path("/etc/systemd/system", name) for name in names]
    folder = "/var/lib/prometheus/node-exporter"

    def there(text: str) -> str:
        return text.replace(folder, str(collected)).replace("/usr/bin/scopekeeper", PROGRAM)

    try:
        for path, text in zip(paths, blocks(section(PAGE, "By node_exporter"), "ini"), strict=True):
            path.write_text(there(text))
        for line in block(PAGE, "By node_exporter", "sh").splitlines():
            assert subprocess.run(["sh", "-c", line]).returncode == 0, line
        file = collected / "scopekeeper.prom"

        def has_both() -> Metrics | None:
            found = Metrics(text_of(file))
            both = found.values("scopekeeper_session_processes", "user") >= {"root", "lab"}
            theirs = found.get("scopekeeper_session_processes", session=session, user="lab")
            return found if both and theirs == 1 else None

        found = eventually(has_both, pause=0.5)
        assert found.get("scopekeeper_session_processes", session=session, user="root") == 1
        assert file.stat().st_mode & 0o777 == 0o644
        _, undo = blocks(section(PAGE, "Undo it"), "sh")
        for line in there(undo).splitlines():
            assert subprocess.run(["sh", "-c", line]).returncode == 0, line
        assert not any(path.exists() for path in (*paths, file))
    finally:
        for path in paths:
            systemctl("disable", "--now", path.name)
            path.unlink(missing_ok=True)
        systemctl("daemon-reload")
        subprocess.run([*as_lab, PROGRAM, "stop", "-s", session], check=True, capture_output=True)
        theirs.wait(PATIENCE)


@pytest.mark.skipif(ROOT, reason="root may")
def test_only_root_may_read_those_of_others(keeper: Scopekeeper) -> None:
    done = keeper.call("metrics", "--all-users")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
