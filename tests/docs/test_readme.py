"""What the README shows is what a user gets."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs import blocks as pages
from tests.docs.blocks import ROOT
from tests.machine import cgroup_of, eventually, text_of
from tests.systemd.manager import Units, main_pid, systemctl

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language, page="README.md"):
    """Return the fenced blocks of a language in a page, '' for those without one."""
    return pages.blocks((ROOT / page).read_text(encoding="utf-8"), language)


def shown():
    """Return the commands of the console blocks, each with the lines that it prints."""
    return [(command, printed.splitlines()) for command, printed in pages.shown(README)]


def test_the_makefile_has_the_targets():
    targets = re.findall(r"^make (\w+)|`make (\w+)`", README, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    for names in targets:
        assert re.search(rf"^{names[0] or names[1]}:", makefile, flags=re.MULTILINE), names


def test_the_sample_configuration_is_what_wrap_writes(tmp_path):
    (config,) = [json.loads(block) for block in blocks("json")]
    path = tmp_path / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text('{"mcpServers": {"time": {"command": "mcp-server-time"}}}')
    environment = os.environ | {"HOME": str(tmp_path), "SCOPEKEEPER_STATE": str(tmp_path / "state")}
    argv = [sys.executable, "-m", "scopekeeper", "wrap", str(path)]
    subprocess.run(argv, cwd=ROOT, env=environment, check=True, capture_output=True)
    written = json.loads(path.read_text())
    (server,) = written["mcpServers"].values()
    assert Path(server["command"]).name == "scopekeeper"
    server["command"] = "scopekeeper"  # where it is installed
    assert config == written


def test_the_clients_are_wrapped_and_unwrapped_by_its_commands(tmp_path):
    """Line by line, in a home with two clients and a folder with a project's file."""
    (text,) = blocks("sh", "docs/clients.md")
    clients = ROOT / "tests" / "clients"
    config = {
        tmp_path / ".codex" / "config.toml": clients / "codex.toml",
        tmp_path / ".cursor" / "mcp.json": clients / "cursor.json",
        tmp_path / ".mcp.json": clients / "claude-project.json",
    }
    for path, sample in config.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sample.read_bytes())
    program = tmp_path / "bin" / "scopekeeper"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from scopekeeper.main import main\nmain()\n"
    )
    program.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def state():
        return [b'"--name"' in path.read_bytes() for path in config]

    seen, said = [state()], []
    for line in text.splitlines():
        ran = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        said.append(ran.stderr)
        seen.append(state())
    nothing, own, all_of_it = [False] * 3, [True, True, False], [True] * 3
    project = [False, False, True]
    assert seen == [nothing, nothing, own, all_of_it, all_of_it, project, nothing]
    named, stays = "servers that are not wrapped: api; run", "1 server is still wrapped in"
    for text, words in zip(said, [named, named, "is called docs", "", stays, ""], strict=True):
        assert words in text
        assert text.count("scopekeeper: ") == bool(words), text
    for path, sample in config.items():
        assert path.read_bytes() == sample.read_bytes()


def test_the_programs_are_linked_into_a_fresh_account(tmp_path):
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^.*\bln -s .*$", text, flags=re.MULTILINE)
    programs = tmp_path / ".local/share/scopekeeper/bin"
    programs.mkdir(parents=True)
    for name in ("scopekeeper", "scopekeeper-shell"):
        (programs / name).touch(0o755)
    subprocess.run(["bash", "-c", line], env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
                   check=True)  # fmt: skip
    linked = {path.name: path.resolve() for path in (tmp_path / ".local/bin").iterdir()}
    assert linked == {path.name: path for path in programs.iterdir()}


def test_openclaw_is_contained_and_released_by_its_commands(tmp_path):
    first, later = blocks("shell", "docs/openclaw.md")
    *there, back = first.splitlines()
    config = tmp_path / ".openclaw" / "openclaw.json"
    config.parent.mkdir()
    sample = (ROOT / "tests" / "clients" / "openclaw.json").read_bytes()
    config.write_bytes(sample)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    seen = []
    for line in (*there, *later.splitlines(), back):
        words = shlex.split(line, comments=True)
        ran = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True)
        seen.append((ran.returncode, config.read_bytes() == sample))
    assert seen == [(0, False)] * 3 + [(0, True)]


def test_the_sample_unit_runs_a_command():
    from scopekeeper.launch.arguments import parse

    (line,) = re.findall(r"^ExecStart=/usr/bin/scopekeeper run (.*)$", README, flags=re.MULTILINE)
    options, command = parse(shlex.split(line))
    assert options
    assert command


def test_it_fits_two_screens_and_no_block_has_two_ways_to_install():
    assert README.count("\n") <= 200
    for block in blocks(""):
        ways = [each for each in ("apt install ./", "pipx ", "uv tool", "venv") if each in block]
        assert len(ways) <= 1, block


@pytest.mark.systemd
def test_the_sample_unit_starts_with_the_path_that_it_gives_for_a_users_own_folder():
    """systemd does not search the PATH of whoever writes the unit."""
    (path,) = set(re.findall(r"`(%h/\S+)`", README))
    (unit,) = [block for block in blocks("ini") if "ExecStart=" in block]
    program, gateway = "/usr/bin/scopekeeper", "/usr/bin/my-gateway"
    assert program in unit
    unit = unit.replace(program, path).replace(gateway, "/bin/sleep infinity")
    link = Path(path.replace("%h", str(Path.home())))
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(shutil.which("scopekeeper"))
    units = Units()
    try:
        units.write("readme-gateway.service", unit)
        assert systemctl("start", "readme-gateway.service").returncode == 0
        pid = eventually(lambda: main_pid("readme-gateway.service"))
        eventually(lambda: "/readme-gateway.service/scopekeeper-" in cgroup_of(pid))
        eventually(lambda: text_of(f"/proc/{pid}/comm") == "sleep\n")
    finally:
        units.close()
        link.unlink()


@pytest.mark.systemd
def test_the_sample_shell_says_what_it_says():
    (text,) = blocks("sh")
    export, *lines = text.splitlines()
    user = {**os.environ, "SCOPEKEEPER_SHELL": "/bin/sh"}
    for line in lines:
        ran = subprocess.run(
            ["sh", "-e", "-c", f"{export}\n{line}"], stdin=subprocess.DEVNULL, env=user,
            capture_output=True, text=True,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, ""), line
        expected = line.rpartition("# ")[2].replace("the real one", "/bin/sh")
        assert re.fullmatch(
            re.escape(expected).replace("<run>", "[0-9a-f]{8}"), ran.stdout.strip()
        ), line


@pytest.mark.systemd
def test_the_gateway_in_python_goes_and_leaves_nothing():
    (program,) = blocks("python")
    look = "\nassert answer == b'a question' and server.scope and not server.poll()"
    subprocess.run([sys.executable, "-W", "error", "-c", program + look], check=True, timeout=300)
    ran = subprocess.run(["scopekeeper", "ls"], capture_output=True, text=True)
    assert "agent:main" not in ran.stdout


@pytest.mark.mcp
@pytest.mark.systemd
def test_the_client_in_python_talks_to_a_server():
    pytest.importorskip("mcp")
    (program,) = [
        each for each in blocks("python", "docs/gateway-python.md") if pages.NEEDS_MCP in each
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ask = "\nimport asyncio\nprint(*[tool.name for tool in asyncio.run(tools()).tools])"
    ran = subprocess.run(
        [sys.executable, "-c", program + ask], env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert (ran.returncode, "convert_time" in ran.stdout) == (0, True), ran.stderr


@pytest.mark.systemd
def test_the_keeper_is_started_by_the_first_scope_as_it_says():
    keeper = blocks("", "docs/operating.md")
    (command,) = [block for block in keeper if block.strip() == "scopekeeper install"]
    systemctl = ["systemctl"] if os.geteuid() == 0 else ["systemctl", "--user"]
    try:
        subprocess.run(["sh", "-e", "-c", command], check=True)
        subprocess.run(["scopekeeper", "run", "-s", "readme", "--", "sleep", "1"], check=True)
        show = [*systemctl, "show", "--value", "--property=ActiveState,StatusText"]
        deadline = time.monotonic() + 30
        while (
            "watching"
            not in subprocess.run(
                [*show, "scopekeeper.service"], capture_output=True, text=True
            ).stdout
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        subprocess.run(["scopekeeper", "uninstall"], check=True)


@pytest.fixture
def example():
    """Two sessions as in the README: one lives, the other has lost its owner."""
    started = []
    owner = subprocess.Popen(["sleep", "1000"])

    def launch(*words):
        process = subprocess.Popen(
            ["scopekeeper", "run", *words, "--", "sh", "-c", "echo; exec sleep 1000"],
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout.readline() == b"\n"

    launch("-s", "agent:main:main", "-n", "time", "--owner", str(os.getpid()))
    launch("-s", "agent:spark:main", "-l", "nested", "-n", "git", "--owner", str(owner.pid))
    owner.kill()
    owner.wait()
    yield
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def shape(sentence):
    """Return a sentence without what is the machine's own: numbers, ids, and who called."""
    for pattern, sign in (
        (r"m-git\.\w{8}", "LEAF"),
        (r"by .{1,15} \(pid \d+, user [^,)]+(, [^)]+)?\)", "by CALLER"),
        (r"([\d.]+[dhms])+|\d+", "N"),
        ("processes", "process"),
    ):
        sentence = re.sub(pattern, sign, sentence)
    return sentence


@pytest.mark.systemd
def test_what_the_readme_shows_is_what_is_printed(example):
    for command, lines in shown():
        ran = subprocess.run(shlex.split(command), capture_output=True, text=True)
        assert ran.returncode == 0, (command, ran.stderr)
        printed = ran.stdout.splitlines()
        if lines[0].isupper():  # a table: its columns, and for each row its words
            assert printed[0].split() == lines[0].split()
            for session in ("agent:main:main", "agent:spark:main"):
                (expected,) = [line.split() for line in lines if line.startswith(session)]
                (got,) = [line.split() for line in printed if line.startswith(session)]
                assert got[:5] == expected[:5]
        else:
            assert shape(printed[-1]) == shape(lines[0])
    deadline = time.monotonic() + 10
    while (
        "agent:spark"
        in subprocess.run(["scopekeeper", "ls"], capture_output=True, text=True).stdout
    ):
        assert time.monotonic() < deadline


@pytest.mark.systemd
def test_the_run_in_it_goes_as_it_shows():
    (block,) = blocks("shell-session")
    run = ""
    try:
        for part in block.split("$ ")[1:]:
            command, _, expected = part.partition("\n")
            ran = subprocess.run(
                command.replace("4f1d09c7", run), shell=True, capture_output=True, text=True
            )
            assert ran.returncode == 0, (command, ran.stderr)
            run = run or ran.stdout.strip()
            shown_here = re.sub(r"\d+ ms", "N ms", expected.replace("4f1d09c7", run))
            assert re.sub(r"\d+ ms", "N ms", ran.stdout) == shown_here, command
    finally:
        scope = [] if os.geteuid() == 0 else ["--user"]
        subprocess.run(["systemctl", *scope, "stop", "scopekeeper.service"], check=False)
