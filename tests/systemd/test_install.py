"""``scopekeeper install``: one command turns all of it on, another one takes it away."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    PATIENCE,
    PROGRAM,
    ROOT,
    SHELL,
    Scopekeeper,
    cgroup_of,
    environment_of,
    eventually,
    is_alive,
    processes,
    scope_directory,
)

from .installed import FILES, UNIT
from .manager import SLICE, Units, main_pid, show, state, systemctl
from .test_exec import begin
from .test_keeper_life import BUS, busctl, end, gateway

pytestmark = pytest.mark.systemd

KIND = "--system" if ROOT else "--user"
HOME = Path("~").expanduser()
TREES = (
    [Path("/etc/systemd/system"), Path("/etc/dbus-1"), Path("/usr/local/share")]
    if ROOT
    else [HOME / ".config", HOME / ".local/share"]
)
INSTALLED = TREES[0] if ROOT else HOME / ".config/systemd/user"
"""The folder of the units."""
SHARE = Path("/usr/local/share") if ROOT else HOME / ".local/share"
PACKAGED = Path("/usr/local/lib/systemd/system") if ROOT else SHARE / "systemd/user"
"""A folder in which our manager looks for what packages bring."""
TIMER, AT_BOOT = "scopekeeper-reconcile.timer", "scopekeeper-reconcile.service"
SCORES = r"security`: ([\d.]+) for a user, ([\d.]+) for the system"


def tree() -> dict[str, object]:
    """Return everything below the folders that are written to, with modes and contents."""
    found: dict[str, object] = {}
    for top in TREES:
        for path in (top, *top.rglob("*")):
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file():
                found[str(path)] = (path.stat().st_mode, path.read_bytes())
            elif path.is_dir():
                found[str(path)] = path.stat().st_mode
    return found


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def before() -> dict[str, object]:
    """Return what there was before the test."""
    return tree()


@pytest.fixture
def call(keeper: Scopekeeper, before: dict[str, object]) -> Iterator[Call]:
    """Give ``install`` and ``uninstall``; afterwards everything is as it was."""
    if Path("/usr/lib/systemd/user/scopekeeper.slice").exists():
        pytest.skip("a package has brought the units: tests/deb sees what install does beside it")

    def do(verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        # where the program is not in PATH, nobody finds the pages that the wheel has put beside it
        environment = {**os.environ, "PATH": "/usr/bin:/bin"}
        return keeper.call(verb, KIND, *options, umask=0o002, env=environment)

    yield do
    do("uninstall", "--force")
    systemctl("stop", UNIT)
    changed = {path for path, what in tree().items() if before.get(path) != what}
    for path in sorted(changed - before.keys(), reverse=True):
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    systemctl("daemon-reload")


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command said, which did what it was told."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuses(done: subprocess.CompletedProcess[str], status: int, words: str) -> None:
    """See that a command said in one line why it did nothing."""
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call systemd-analyze of our manager."""
    return subprocess.run(
        ["systemd-analyze", *([] if ROOT else ["--user"]), *arguments],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_one_command_turns_all_of_it_on_and_another_one_leaves_nothing(
    call: Call, before: dict[str, object], keeper: Scopekeeper, session: str
) -> None:
    assert f"{INSTALLED}/{UNIT}: would be written" in succeeds(call("install", "--dry-run"))
    assert tree() == before
    assert f"{INSTALLED}/{UNIT}: written" in succeeds(call("install"))
    made = {path: what for path, what in tree().items() if path not in before}
    assert not [p for p, w in made.items() if isinstance(w, tuple) and w[0] & 0o133 != 0]
    assert len([path for path in made if "/man1/" in path]) > 20
    first = next(Path(p) for p in made if p.endswith("/_scopekeeper")).read_text()
    assert first.startswith("#compdef scopekeeper\n")
    assert succeeds(call("install")) == "Nothing to change.\n"
    in_path = json.loads(succeeds(keeper.call("install", KIND, "--dry-run", "--json")))
    assert len([path for path in in_path["removed"] if "/man1/" in path]) > 20
    told = json.loads(succeeds(call("install", "--json")))
    assert (told["version"], told["written"], told["ran"]) == (1, [], [])
    assert state(TIMER) == "active"
    assert {show(unit, "UnitFileState") for unit in (TIMER, AT_BOOT)} == {"enabled"}
    assert AT_BOOT in show("default.target", "Wants")

    assert state(UNIT) == "inactive"
    assert "starts with the next scope" in keeper.call("doctor").stdout
    owner = gateway(keeper)
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    eventually(lambda: state(UNIT) == "active")
    assert keeper.call("reconcile", "--unless-keeper").stdout == "A keeper runs.\n"
    listed = busctl("call", *BUS, "List")
    assert session in listed.stdout, listed.stderr
    end(owner)
    assert member.wait(PATIENCE) == -signal.SIGTERM
    succeeds(systemctl("stop", UNIT))
    assert busctl("call", *BUS, "List").returncode == 0, "the bus starts it too"

    assert f"{INSTALLED}/{UNIT}: removed" in succeeds(call("uninstall"))
    assert tree() == before
    assert {show(unit, "LoadState") for unit in (UNIT, TIMER, AT_BOOT)} == {"not-found"}
    assert state(UNIT) == state(TIMER) == "inactive"
    assert busctl("call", *BUS, "List").returncode != 0
    assert succeeds(call("uninstall")) == "Nothing to change.\n"


@pytest.mark.skipif(ROOT, reason="the folders of the system are never empty")
def test_an_empty_folder_that_was_there_before_stays(call: Call) -> None:
    folder = Path(INSTALLED)
    folder.mkdir(parents=True, exist_ok=True)  # another test may have left it
    there = tree()
    assert not any(folder.iterdir())
    succeeds(call("install"))
    assert tree() != there
    succeeds(call("uninstall"))
    assert tree() == there


def test_uninstall_takes_the_slice_from_the_manager_once_nothing_runs_in_it(
    call: Call, keeper: Scopekeeper, session: str
) -> None:
    stays = "scopekeeper.slice stays, with what runs in it; once that has ended: scopekeeper unin"
    member = keeper.member("-s", session, "--", *FOREVER)
    succeeds(call("install"))
    done = call("uninstall")
    succeeds(done)
    assert done.stderr.count(stays) == 1
    assert is_alive(member.pid)
    assert state("scopekeeper.slice") == "active"
    member.kill()
    member.wait()
    eventually(lambda: not scope_directory(session))
    done = call("uninstall")
    assert "stop --job-mode=ignore-requirements scopekeeper.slice" in succeeds(done)
    assert "stays" not in done.stderr
    assert "scopekeeper" not in systemctl("list-units", "--all", "scopekeeper*").stdout
    assert not Path(SLICE).exists()


def test_uninstall_ends_with_what_stays(call: Call, keeper: Scopekeeper, tmp_path: Path) -> None:
    project = tmp_path / ".mcp.json"
    project.write_text('{"mcpServers": {"a": {"command": "x"}}}')
    succeeds(call("install"))
    succeeds(keeper.call("wrap", str(project)))
    done = keeper.call("uninstall", KIND, cwd=tmp_path)
    said = f"1 server is still wrapped in {project}; run `scopekeeper unwrap {project}`"
    assert said in done.stderr
    told = json.loads(succeeds(keeper.call("uninstall", KIND, "--json", cwd=tmp_path)))
    assert [each["servers"] for each in told["still_wrapped"]] == [["a"]]
    succeeds(keeper.call("unwrap", str(project)))
    assert "still wrapped" not in keeper.call("uninstall", KIND, cwd=tmp_path).stderr


def test_systemd_understands_every_unit_and_the_keepers_is_as_closed_as_its_head_says(
    call: Call, units: Units
) -> None:
    units.write("gateway-of-nobody.service", "[Service]\nExecStart=/bin/true\n")
    succeeds(call("install", "--gateway", "gateway-of-nobody", "--shell"))
    names = [UNIT, TIMER, AT_BOOT, "scopekeeper.slice", "scopekeeper@x.service"]
    done = analyze("verify", "--man=no", *names, "gateway-of-nobody.service")
    complaints = [
        line
        for line in done.stderr.splitlines()
        if "copekeeper" in line and "FileDescriptorStorePreserve" not in line  # since 254
    ]
    assert complaints == []
    scores = re.search(SCORES, (FILES / UNIT).read_text())
    assert scores is not None
    wanted = float(scores[2 if ROOT else 1])
    done = analyze("security", "--no-pager", UNIT)
    found = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= wanted


def test_what_a_user_has_edited_stays_and_an_older_version_is_replaced(
    call: Call, before: dict[str, object]
) -> None:
    mine = INSTALLED / f"{UNIT}.d" / "20-mine.conf"
    mine.parent.mkdir(parents=True)
    mine.write_text("[Service]\nNice=1\n")
    slice_ = INSTALLED / "scopekeeper.slice"
    succeeds(call("install"))
    marked, text = slice_.read_text(), (INSTALLED / TIMER).read_text()
    slice_.write_text((FILES / "scopekeeper.slice").read_text())
    (INSTALLED / TIMER).write_text(f"{text}# mine\n")
    done = call("install")
    assert f"{INSTALLED / TIMER}: kept: it was edited" in done.stderr
    assert f"{slice_}: written" in succeeds(done)
    assert slice_.read_text() == marked
    done = call("uninstall")
    assert f"{INSTALLED / TIMER}: kept: it was edited" in done.stderr
    succeeds(done)
    assert (INSTALLED / TIMER).read_text() == f"{text}# mine\n"
    assert mine.read_text() == "[Service]\nNice=1\n"
    (INSTALLED / TIMER).unlink()
    shutil.rmtree(mine.parent)
    new = {path for path in tree() if path not in before}
    assert new <= {str(path) for path in (INSTALLED, *INSTALLED.parents)}


@pytest.mark.parametrize("obstacle", ["a file where a folder has to be", "what enables a unit"])
def test_a_failure_leaves_everything_as_it_was(
    call: Call, before: dict[str, object], obstacle: str
) -> None:
    in_the_way = (
        SHARE / "bash-completion/completions"
        if obstacle.startswith("a file")
        else INSTALLED / "default.target.wants"
    )
    if in_the_way.exists():
        pytest.skip("this machine has the folder already")
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("")
    there = tree()
    done = call("install")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert tree() == there
    assert state(TIMER) == "inactive"
    assert show(UNIT, "LoadState") == "not-found"
    in_the_way.unlink()


def test_the_units_of_a_package_are_only_turned_on(call: Call, before: dict[str, object]) -> None:
    PACKAGED.mkdir(parents=True, exist_ok=True)
    copies = [path for path in FILES.iterdir() if path.name.startswith("scopekeeper")]
    copies += sorted((FILES / "system").iterdir()) if ROOT else []
    for path in copies:
        if path.is_dir():
            shutil.copytree(path, PACKAGED / path.name)
        else:
            text = path.read_text().replace("=scopekeeper ", f"={PROGRAM} ")
            (PACKAGED / path.name).write_text(text)
    try:
        succeeds(systemctl("daemon-reload"))
        told = json.loads(succeeds(call("install", "--json")))
        assert not [path for path in told["written"] if path.startswith(str(INSTALLED))]
        assert f"{PACKAGED / UNIT}" in told["provided"]
        assert show(UNIT, "FragmentPath") == str(PACKAGED / UNIT)
        assert state(TIMER) == "active"
        succeeds(call("uninstall"))
        assert state(TIMER) == "inactive"
        assert show(TIMER, "UnitFileState") == "disabled"
        assert (PACKAGED / UNIT).exists()
    finally:
        for path in copies:
            copy = PACKAGED / path.name
            shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    if ROOT:
        assert tree() == before


def test_an_instance_of_the_template_runs_its_command_contained(
    call: Call, keeper: Scopekeeper, units: Units, session: str, tmp_path: Path
) -> None:
    name = session[-8:]
    unit = f"scopekeeper@{name}.service"
    config = Path("/etc/scopekeeper" if ROOT else HOME / ".config/scopekeeper") / "services"
    was_there = config.parent.exists()
    config.mkdir(parents=True, exist_ok=True)
    note = tmp_path / "note"
    script = f'setsid sleep infinity & echo \\"two  words\\" $0 $1 > {note}; exec sleep infinity'
    (config / f"{name}.env").write_text(
        f"COMMAND=sh -c '{script}' zero \"one more\"\n"
        f"SCOPEKEEPER_SESSION={session}\nSCOPEKEEPER_LANE=cron\nCOLOUR=light red\n"
    )
    try:
        succeeds(call("install"))
        units.adopt(unit)
        succeeds(systemctl("start", unit))
        eventually(lambda: note.exists() and note.read_text().count("\n"))
        assert note.read_text() == "two  words zero one more\n"
        scope = scope_directory(session)
        assert scope.startswith(f"{SLICE}/{unit}/scopekeeper-")
        assert cgroup_of(main_pid(unit)).startswith(scope.removeprefix("/sys/fs/cgroup") + "/m-")
        assert environment_of(main_pid(unit))["COLOUR"] == "light red"
        inside = processes(scope)
        assert len(inside) == 2
        refuses(call("uninstall"), 1, unit)
        succeeds(systemctl("stop", unit))
        eventually(lambda: not any(map(is_alive, inside)))
        (config / f"{name}.env").write_text("COLOUR=red\n")
        succeeds(systemctl("start", unit))
        eventually(lambda: state(unit) == "failed")
        assert show(unit, "NRestarts") == "0"
    finally:
        shutil.rmtree(config if was_there else config.parent)


def test_the_timer_ends_an_orphan_where_no_keeper_runs(
    call: Call, keeper: Scopekeeper, session: str
) -> None:
    owner = gateway(keeper)
    member = keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    soon = INSTALLED / f"{TIMER}.d" / "soon.conf"
    soon.parent.mkdir(parents=True)
    soon.write_text("[Timer]\nOnActiveSec=\nOnActiveSec=10ms\nAccuracySec=1ms\n")
    succeeds(call("install"))
    succeeds(systemctl("stop", UNIT))
    eventually(lambda: state(AT_BOOT) == "inactive")  # what the timer began at the installation
    end(owner)
    succeeds(systemctl("restart", TIMER))
    assert member.wait(PATIENCE) == -signal.SIGTERM
    assert state(UNIT) == "inactive", "no keeper did it"
    eventually(lambda: state(AT_BOOT) == "inactive")
    assert show(AT_BOOT, "Result") == "success"
    shutil.rmtree(soon.parent)


@pytest.mark.skipif(ROOT, reason="OpenClaw's unit is a user's")
def test_one_command_contains_openclaw_and_has_systemd_start_the_keeper(
    call: Call, keeper: Scopekeeper
) -> None:
    config = HOME / ".openclaw" / "openclaw.json"
    config.parent.mkdir()
    try:
        config.write_text("{}")
        alone = keeper.call("openclaw", "install", "--no-keeper")
        succeeds(alone)
        assert not (INSTALLED / UNIT).exists()
        said = succeeds(keeper.call("openclaw", "install"))
        assert str(INSTALLED / UNIT) in said
        assert systemctl("is-enabled", TIMER).stdout == "enabled\n"
        again = keeper.call("openclaw", "install", "--json")
        assert json.loads(succeeds(again))["keeper"] == {"written": [], "removed": [], "ran": []}
        succeeds(keeper.call("openclaw", "uninstall"))
        assert (INSTALLED / UNIT).exists(), "other gateways may need it"
        succeeds(call("uninstall"))
        assert not (INSTALLED / UNIT).exists()
    finally:
        shutil.rmtree(config.parent)


@pytest.mark.skipif(ROOT, reason="OpenClaw's unit is a user's")
@pytest.mark.parametrize("mode", ["process", "mixed"])
def test_openclaw_is_told_if_its_unit_leaves_processes(
    call: Call, keeper: Scopekeeper, mode: str
) -> None:
    config, name = HOME / ".openclaw" / "openclaw.json", "openclaw-gateway.service"
    config.parent.mkdir()
    try:
        config.write_text("{}")
        INSTALLED.mkdir(parents=True, exist_ok=True)
        (INSTALLED / name).write_text(f"[Service]\nKillMode={mode}\nExecStart=sleep infinity\n")
        assert systemctl("daemon-reload").returncode == 0
        done = keeper.call("openclaw", "install", "--no-keeper")
        assert done.returncode == 0, done.stderr
        assert (f"{name}: KillMode=process leaves" in done.stderr) is (mode == "process")
        said = keeper.call("openclaw", "status", "--json")
        (unit,) = [each for each in json.loads(said.stdout)["parts"] if each["part"] == "unit"]
        assert unit["verdict"] == ("lacks" if mode == "process" else "ok")
        assert ("KillMode=process" in unit["detail"]) is (mode == "process")
        succeeds(keeper.call("openclaw", "uninstall"))
    finally:
        shutil.rmtree(config.parent)
        (INSTALLED / name).unlink()
        systemctl("daemon-reload")


def test_the_keeper_is_started_for_what_runs_already(
    call: Call, keeper: Scopekeeper, session: str
) -> None:
    owner = subprocess.Popen(FOREVER)
    member = keeper.member("-s", session, f"--owner={owner.pid}", "--", *FOREVER)
    done = call("install", KIND)
    assert done.returncode == 0, done.stderr
    owner.kill()
    owner.wait()
    eventually(lambda: not is_alive(member.pid))


def test_a_keeper_that_was_not_installed_is_named_until_it_ends(
    call: Call, keeper: Scopekeeper, session: str
) -> None:
    run = begin(keeper, session, "--", "cat")
    eventually(lambda: main_pid(UNIT))
    done = call("install")
    succeeds(done)
    assert done.stderr.count("a keeper that was not installed still runs; it ends after") == 1
    found = json.loads(keeper.call("doctor", "--json").stdout)["checks"]
    fixes = [each["fix"] for each in found if each["check"] == "exec" and each["fix"]]
    assert all("scopekeeper install" not in each for each in fixes), fixes
    assert keeper.call("stop", run).returncode == 0
    systemctl("stop", UNIT)
    assert "not installed" not in call("install").stderr


def test_a_killed_gateway_comes_back_without_what_it_had(
    call: Call, keeper: Scopekeeper, units: Units, session: str, before: dict[str, object]
) -> None:
    """By its drop-in alone: its unit has systemd leave all but the main process, and no keeper."""
    name = f"gateway-{session[-8:]}.service"
    there = tree()
    refuses(call("install", "--gateway", name), 1, f"manager has no {name}")
    refuses(call("install", "--gateway", "openclaw-gateway"), 2, "scopekeeper openclaw install")
    assert tree() == there
    # in its own cgroup: a scope of the manager systemd would end with it
    place = f'--placement "cgroup:{MOUNT}$$(sed -n s/^0:://p /proc/self/cgroup)"'
    units.write(
        name,
        f"""\
[Service]
Type=exec
Delegate=yes
KillMode=process
Restart=always
RestartSec=0
Environment=PATH={os.environ["PATH"]}
ExecStart=/bin/sh -c '{PROGRAM} run {place} -s {session} -- sleep infinity & exec sleep infinity'
""",
    )
    units.write(f"{UNIT}.d/never.conf", "[Unit]\nConditionPathExists=/nonexistent\n")
    done = call("install", "--gateway", name.removesuffix(".service"), "--shell")
    assert f"restart {name}" in succeeds(done)
    succeeds(systemctl("start", name))
    first = main_pid(name)
    assert environment_of(first)["SHELL"] == SHELL
    (old,) = eventually(lambda: processes(scope_directory(session) or "/nonexistent"))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not is_alive(old))
    eventually(lambda: main_pid(name) not in (0, first))
    eventually(lambda: processes(scope_directory(session) or "/nonexistent") - {old})
    (told,) = json.loads(succeeds(keeper.call("history", "-s", session, "--json")))["ends"]
    assert (told["reason"], f"{name} was killed (signal 9)" in told["evidence"]) == (
        "owner gone", True,
    )  # fmt: skip
    assert show(UNIT, "ActiveState") == "inactive"
    assert ": written" not in succeeds(call("install"))
    drop_in = INSTALLED / f"{name}.d"
    assert f"{drop_in}/10-scopekeeper.conf: removed" in succeeds(
        call("uninstall", "--gateway", name)
    )
    assert not drop_in.exists()
    assert state(TIMER) == "active"
    succeeds(systemctl("stop", name))
    keeper.call("stop", "-s", session)


def test_the_keeper_is_not_taken_from_a_run_that_it_holds(
    call: Call, keeper: Scopekeeper, session: str
) -> None:
    succeeds(call("install"))
    run = begin(keeper, session, "--", "cat")
    pid = eventually(lambda: main_pid(UNIT))
    there = tree()
    refuses(call("uninstall"), 1, f"the run {run}")
    assert tree() == there
    done = call("uninstall", "--force")
    succeeds(done)
    assert f"hang up: the run {run} of {session}" in done.stderr
    assert main_pid(UNIT) == pid
    assert is_alive(pid)
    succeeds(keeper.call("send", run, "hello", "--enter"))
    eventually(lambda: "hello\nhello" in keeper.call("logs", run).stdout)
    succeeds(keeper.call("stop", "-s", session))
    succeeds(systemctl("stop", UNIT))
