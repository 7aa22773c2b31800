"""What somebody has who installed the .deb with dpkg, and what is left when it was purged."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_readme import blocks
from tests.machine import eventually

from .conftest import SYSTEM_PATH, Who, dpkg, install, is_installed

pytestmark = pytest.mark.deb

SOURCE = Path(__file__).parents[2] / "scopekeeper"
HOT = Path("/usr/lib/python3/dist-packages/scopekeeper/launcher")
# What the machine, dpkg and the tests write on their own; records and caches of others.
NOT_OURS = (
    "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/lab", "/srv", "/opt", "/var/log",
    "/root", "/var/lib/dpkg", "/var/lib/lab", "/var/cache/man", "/var/lib/systemd",
    "/etc/machine-id",
    "/home/lab/.local/state/scopekeeper",
)  # fmt: skip


def python_tag():
    ask = ["/usr/bin/python3", "-c", "import sys; print(sys.implementation.cache_tag)"]
    return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()


def compiled():
    """Return the names of the compiled pieces of the launchers."""
    return {
        path.name for path in HOT.glob("*.cpython-*") if path.name.split(".")[0] in {
            "calls", "hot", "make", "shell", "prefix", "stop"}
    }  # fmt: skip


def opened(tmp_path, *command):
    """Return the files that a command opened or executed, it and what it becomes."""
    log = tmp_path / "strace"
    trace = ["strace", "-f", "-qq", "-e", "trace=openat,execve", "-o", str(log)]
    done = subprocess.run(
        [*trace, *command], env={"PATH": SYSTEM_PATH}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(r'(?:openat|execve)\((?:\w+, )?"([^"]+)".*= \d', log.read_text())
    return done.stdout, found


def test_the_readmes_lines_install_it(manuals, tmp_path):
    """But for `make deb`, which was before; there is no network here."""
    (text,) = [block for block in blocks("") if "make deb" in block]
    made, install = text.splitlines()
    assert made == "make deb"
    (tmp_path / "dist").symlink_to("/srv/deb")
    environment = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": "/root"}
    for line, statuses in ((install, {0}), ("scopekeeper doctor", {0, 1})):
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode in statuses, done.stdout
    assert is_installed()


def test_it_needs_no_compiler_enables_nothing_and_starts_nothing(package):
    assert not shutil.which("gcc", path=SYSTEM_PATH)
    assert not shutil.which("pip", path=SYSTEM_PATH)
    assert dpkg("-V", "scopekeeper") == ""
    for who in (Who("root"), Who("lab")):
        enabled = who.call(*who.systemctl, "is-enabled", "scopekeeper.service", status=None)
        assert enabled == "static\n"
    for folder in ("/etc/systemd", "/home/lab/.config"):
        assert not list(Path(folder).rglob("*scopekeeper*"))


def try_commands_are_contained_found_again_and_ended(who):
    run = who.start("scopekeeper", "run", "-s", "deb", "-n", "it", "--", "sleep", "1000")
    try:
        (scope,) = eventually(who.scopes)
        told = who.call("scopekeeper", "doctor", status=None)
        assert "/usr/bin/scopekeeper starts the interpreter without site" in told
        assert "scopekeeper.slice is installed in /usr/lib/systemd" in told
        keeper = eventually(who.keeper)
        argv = Path(f"/proc/{keeper}/cmdline").read_text().split("\0")[:-1]
        assert argv == ["/usr/bin/python3", "-IS", "/usr/bin/scopekeeper", "keeper"]
        said = who.call("scopekeeper", "stop", "-s", "deb")
        assert scope["unit"] in said
        assert ": gone after" in said
        run.wait(30)
        assert "stopped" in who.call("scopekeeper", "why", "it")
    finally:
        run.kill()
        run.wait()


def test_a_report_is_made_by_the_package(who):
    found = json.loads(who.call("scopekeeper", "bugreport", "-o", "-"))
    assert found["versions"]["program"] == "/usr/bin/scopekeeper"
    assert {"click", "psutil", "pystemd"} <= set(found["versions"]["libraries"])
    # it is called as any other command, so what it finds is what holds for them
    (launcher,) = [each for each in found["doctor"]["checks"] if each["check"] == "launcher"]
    assert launcher["detail"] == "/usr/bin/scopekeeper starts the interpreter without site"
    assert [
        name for name, part in found.items() if isinstance(part, dict) and "problem" in part
    ] == []


def test_the_plugins_are_in_the_package_as_in_the_checkout(package):
    installed = HOT.parent
    for folder in ("clients/claude_code", "openclaw/plugin"):
        paths = [path for path in (SOURCE / folder).rglob("*") if path.is_file()]
        assert paths
        for path in paths:
            assert (installed / path.relative_to(SOURCE)).read_bytes() == path.read_bytes()


def test_the_folder_of_claude_code_is_a_marketplace(package):
    folder = HOT.parent / "clients/claude_code"
    market = json.loads((folder / ".claude-plugin/marketplace.json").read_text())
    plugin = folder / market["plugins"][0]["source"]
    assert (plugin / ".claude-plugin/plugin.json").is_file()


def test_an_upgrade_restarts_the_keepers_and_nothing_else(package):
    """The system's and a user's: terminals go on, and so does what ``run`` started."""
    script = "while read -r word; do echo heard $word; done"
    everybody = dict.fromkeys((Who("root"), Who("lab")), "")
    servers = [
        who.start("scopekeeper", "run", "-s", "deb", "--", "sleep", "1000") for who in everybody
    ]
    try:
        for who in everybody:
            told = who.call("scopekeeper", "exec", "-d", "-s", "deb", "--", "sh", "-c", script)
            everybody[who] = told.split()[-1]
            eventually(lambda who=who: len(who.scopes()) == 2)
        before = {who: who.keeper() for who in everybody}
        install()
        for who, run in everybody.items():
            assert who.keeper() not in {0, before[who]}
            who.call("scopekeeper", "send", run, "this", "--enter")
            eventually(
                lambda who=who, run=run: "heard this" in who.call("scopekeeper", "logs", run)
            )
            assert len(who.scopes()) == 2
        assert [server.poll() for server in servers] == [None, None]
    finally:
        for who, server in zip(everybody, servers, strict=True):
            who.call("scopekeeper", "stop", "-s", "deb")
            server.wait(30)


def test_the_bus_starts_the_keeper(who):
    name, path = "org.scopekeeper.Keeper1", "/org/scopekeeper/Keeper1"
    who.call(*who.systemctl, "stop", "scopekeeper.service")
    assert who.call(*who.busctl, "call", name, path, name, "List").startswith("aa{sv} ")
    assert who.keeper()


def test_install_enables_what_the_package_has_and_writes_nothing_beside_it(who):
    """Of the package's units; a user's own copies would stay as they are at the next upgrade."""
    timer = "scopekeeper-reconcile.timer"
    before = tree()
    said = who.call("scopekeeper", "install")
    assert "written" not in said
    assert who.call(*who.systemctl, "is-active", timer) == "active\n"
    made = set(tree()) - set(before)
    links = {path for path in made if os.path.islink(path)}
    assert not [path for path in made - links if not os.path.isdir(path)]
    assert {os.path.realpath(path) for path in links} == {
        f"/usr/lib/systemd/{'system' if who.user == 'root' else 'user'}/{name}"
        for name in (timer, "scopekeeper-reconcile.service")
    }
    assert who.call("scopekeeper", "install") == "Nothing to change.\n"
    who.call("scopekeeper", "uninstall")
    assert not [path for path in set(tree()) - set(before) if os.path.islink(path)]
    assert who.call(*who.systemctl, "is-active", timer, status=None) == "inactive\n"


def test_a_launch_reads_the_compiled_path_and_an_upgrade_of_python_makes_it_anew(package, tmp_path):
    """A version of Python for which nothing is compiled launches all the same."""
    tag = python_tag()
    pieces = {f"{name}.{tag}" for name in ("calls", "hot", "make", "shell", "prefix", "stop")}
    launches = (
        ("scopekeeper", "run", "-s", "deb", "--", "echo", "launched"),
        ("/usr/bin/scopekeeper-shell", "-c", "echo launched"),
        ("/usr/bin/scopekeeper-prefix", "echo launched"),
    )

    def modules(command):
        said, files = opened(tmp_path, *command)
        assert said == "launched\n"
        fast = {Path(file).name for file in files if Path(file).name in pieces}
        return fast, [file for file in files if re.search(r"scopekeeper/.*\.pyc?$", file)]

    assert compiled() == pieces
    for command, piece in zip(launches, ("hot", "shell", "prefix"), strict=True):
        fast, slow = modules(command)
        assert f"{piece}.{tag}" in fast
        assert not slow
    for name in pieces:  # as if another version had been there until now
        (HOT / name).rename(HOT / name.replace(tag, "cpython-39"))
    for command in launches:
        fast, slow = modules(command)
        assert not fast
        assert slow
    environment = {**os.environ, "PATH": SYSTEM_PATH}
    for argv in (
        ["dpkg-trigger", "--by-package=python3-minimal", "/usr/bin/python3"],
        ["dpkg", "--triggers-only", "--pending"],
    ):
        subprocess.run(argv, env=environment, check=True, capture_output=True)
    assert compiled() == pieces


def test_manuals_are_shown_and_completions_lie_where_shells_look(package):
    for name in ("scopekeeper", "scopekeeper-run", "scopekeeper-shell", "scopekeeper-prefix"):
        shown = subprocess.run(
            ["man", name], env={"PATH": SYSTEM_PATH, "MANPAGER": "cat", "LANG": "C.UTF-8"},
            capture_output=True, text=True,
        )  # fmt: skip
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "SYNOPSIS" in shown.stdout
    for place in (
        "bash-completion/completions/scopekeeper",
        "zsh/vendor-completions/_scopekeeper",
        "fish/vendor_completions.d/scopekeeper.fish",
    ):
        assert "scopekeeper" in Path("/usr/share", place).read_text()


def tree():
    """Return everything that lies on the machine's disk, and of files how large and how old."""
    found = {}
    for folder, folders, files in os.walk("/"):
        folders[:] = [
            name for name in folders if os.path.join(folder, name) not in NOT_OURS
        ]  # fmt: skip
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if path in NOT_OURS:
                continue
            seen = os.lstat(path)
            of_file = (seen.st_size, seen.st_mtime_ns) if name in files else ()
            found[path] = (seen.st_mode, seen.st_uid, seen.st_gid, *of_file)
    return found


def test_a_purge_leaves_nothing_but_what_is_the_users(package):
    """Their history is, and so is what still runs, though nobody holds its terminal."""
    dpkg("-P", "scopekeeper")
    before = tree()
    install()
    lab = Who("lab")
    Who("root").call("scopekeeper", "install")
    assert Path("/etc/systemd/system/timers.target.wants/scopekeeper-reconcile.timer").is_symlink()
    server = lab.start("scopekeeper", "run", "-s", "purge", "--", "sleep", "1000")
    try:
        for who in (Who("root"), lab):
            assert "over" in who.call("scopekeeper", "exec", "-s", "deb", "--", "echo", "over")
        eventually(lambda: "purge" in lab.call("scopekeeper", "ls", "-s", "purge"))
        assert Path("/var/lib/scopekeeper").is_dir()
        assert set(tree()) - set(before)
        dpkg("-P", "scopekeeper")
        after = tree()
        assert set(before) ^ set(after) == set()
        assert {path for path, seen in after.items() if before[path] != seen} == set()
        assert Path("/home/lab/.local/state/scopekeeper").is_dir()
        assert server.poll() is None
        for who in (Who("root"), lab):
            show = (*who.systemctl, "show", "--value", "-p", "LoadState", "scopekeeper.service")
            assert who.call(*show) == "not-found\n"
    finally:
        lab.call(*lab.systemctl, "stop", "scopekeeper-purge-main.scope")
        server.wait(30)


@pytest.mark.usefixtures("package")
def test_metrics_are_written_by_the_library_of_the_archive():
    for form, last in (("openmetrics", "# EOF\n"), ("text", "")):
        printed = Who("lab").call("scopekeeper", "metrics", "--format", form)
        assert 'scopekeeper_build_info{version="' in printed
        assert 'scopekeeper_ends_total{reason="exited",user="lab"} ' in printed
        assert printed.endswith(last)
