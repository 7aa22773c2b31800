"""The lab's pure parts.  Nothing here boots, builds or needs root."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from . import deb, host, image, machine, nspawn, payload, relay, reports, session, spec, suites
from .cli import parser, run_jobs
from .cli import test_jobs as jobs_of_test

HERE = Path(__file__).resolve().parent


# What is asked for


def test_a_spec_names_suite_kind_users_and_arguments() -> None:
    parsed = spec.parse("trixie:nspawn:root+user", '-m "systemd or root"')
    assert parsed == spec.Spec("trixie", "nspawn", ("root", "user"), ("-m", "systemd or root"))
    assert parsed.title == "trixie:nspawn"
    assert [(job.name, job.user) for job in parsed.jobs] == [("root", "root"), ("user", "lab")]


def test_a_spec_with_arguments_of_its_own_ignores_the_default_ones() -> None:
    assert spec.parse("bookworm:vm:root=-k 'a=b'", "-x").args == ("-k", "a=b")
    assert spec.parse("bookworm:vm:root=", "-x").args == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("trixie", "is not .*SUITE"),
        ("trixie:chroot:root", "is not .*SUITE"),
        ("trixie:vm:root:more", "is not HOST:GUEST"),
        ("trixie:nspawn:root:/:relative", "is not HOST:GUEST"),
        ("trixie:nspawn:root:/no/such/folder:/there", "no folder of this host"),
        ("buzz:vm:root", "unknown suite 'buzz'; known: bookworm"),
        ("trixie:vm:", "no such user"),
        ("trixie:vm:other", "no such user: other"),
        ("trixie:vm:root+root", "twice"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(host.LabError, match=complaint):
        spec.parse(text, "")


def test_two_specs_of_one_name_are_refused() -> None:
    with pytest.raises(host.LabError, match="given twice: trixie:vm"):
        spec.parse_all(["trixie:vm:root", "trixie:vm:user"], "")


def test_two_specs_of_one_machine_can_be_told_apart_by_name() -> None:
    specs = spec.parse_all(["trixie:vm:root", "more@trixie:vm:root=-x"], "")
    assert [each.title for each in specs] == ["trixie:vm", "more@trixie:vm"]
    assert specs[1].args == ("-x",)


def test_the_matrix_has_every_suite_of_the_lab_as_both_kinds_and_for_both_users() -> None:
    argv = ["make", "--dry-run", "-C", str(HERE.parent.parent), "test-matrix"]
    # the make that has started this may have been told other machines, and passes that on
    alone = {"PATH": os.environ["PATH"]}
    told = subprocess.run(argv, env=alone, capture_output=True, text=True, check=True).stdout
    words = shlex.split(told)
    texts = [words[at + 1] for at, word in enumerate(words) if word == "--lab"]
    asked = {(each.title, each.names): each.args for each in spec.parse_all(texts, "")}
    both = ("root", "user")
    for suite in [each for each in suites.SUITES if not each.packages]:
        plain = ("-m", "(systemd or root) and not controllers")
        assert asked[f"{suite.name}:nspawn", both] == plain
        assert asked[f"{suite.name}:vm", both] == ("-m", "controllers")
        assert asked[f"unit@{suite.name}:nspawn", ("user",)] == ("tests/unit",)


def test_a_container_sees_the_folders_that_its_spec_names(tmp_path: Path) -> None:
    parsed = spec.parse(f"trixie:nspawn:user:{tmp_path}:/there=-x", "")
    assert parsed.binds == (payload.Bind(tmp_path, Path("/there")),)
    assert parsed.args == ("-x",)
    options = parser().parse_args(["run", "trixie", "--nspawn", "--bind-ro", f"{tmp_path}:/there"])
    assert tuple(payload.bind(each) for each in options.bind_ro) == parsed.binds


def test_a_virtual_machine_refuses_a_folder_of_the_host(tmp_path: Path) -> None:
    work = payload.Work((), 1, (payload.Bind(tmp_path, tmp_path),))
    request = session.Request("trixie", "vm", work, tmp_path)
    watch = machine.Watch(lambda note: None, lambda text: None, lambda event: None)
    with pytest.raises(host.LabError, match="use --nspawn"):
        session.execute(request, host.Home(tmp_path), watch, threading.Event())


def test_the_command_line_takes_both_kinds_and_users() -> None:
    options = parser().parse_args(["test", "trixie", "--nspawn", "--root", "--user"])
    assert (options.kind, options.root, options.user) == ("nspawn", True, True)
    assert parser().parse_args(["run", "bookworm"]).kind == "vm"


def test_jobs_of_the_command_line() -> None:
    assert [job.name for job in jobs_of_test(root=False, user=False, args=())] == ["root"]
    both = jobs_of_test(root=True, user=True, args=("-q",))
    assert [(job.name, job.user) for job in both] == [("root", "root"), ("user", "lab")]
    assert run_jobs(user=True, argv=("id",)) == (payload.Job("run", "lab", ("id",)),)


# The image's cache


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    shutil.copytree(HERE / "guest", tmp_path / "guest")
    shutil.copy(HERE / "requirements.txt", tmp_path)
    return tmp_path


def test_the_same_inputs_give_the_same_image(inputs: Path) -> None:
    trixie = suites.find("trixie")
    assert image.content_hash(trixie, inputs) == image.content_hash(trixie)


@pytest.mark.parametrize("name", ["requirements.txt", "guest/image/python", "guest/image/init"])
def test_a_changed_input_gives_another_image(inputs: Path, name: str) -> None:
    trixie = suites.find("trixie")
    before = image.content_hash(trixie, inputs)
    with (inputs / name).open("a") as file:
        file.write("# more\n")
    assert image.content_hash(trixie, inputs) != before


def test_what_travels_with_each_run_is_no_part_of_the_image(inputs: Path) -> None:
    trixie = suites.find("trixie")
    before = image.content_hash(trixie, inputs)
    (inputs / "guest/lab-run").write_text("exit\n")
    assert image.content_hash(trixie, inputs) == before


def test_who_waits_for_an_image_does_not_wait_for_the_machines_that_have_it(tmp_path: Path) -> None:
    home = host.Home(tmp_path)
    trixie = suites.find("trixie")
    made = image.locate(trixie, home)
    never = threading.Event()
    found: list[image.Image] = []

    def wait() -> None:
        found.append(image.build(trixie, home, lambda text: None, never))

    waiting = threading.Thread(target=wait, daemon=True)
    with host.locked(made.lock, never):  # as one who builds it
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        made.folder.mkdir()
        made.info.write_text("{}")
        waiting.join(60)
    assert found == [made]


def test_every_suite_has_an_image_of_its_own() -> None:
    assert len({image.content_hash(suite) for suite in suites.SUITES}) == len(suites.SUITES)


def test_the_packages_builder_is_another_one_where_the_package_asks_for_more(
    tmp_path: Path,
) -> None:
    def builder(more: str) -> tuple[Path, tuple[str, ...]]:
        (tmp_path / "debian/control").write_text(
            "Source: x\nBuild-Depends:\n debhelper-compat (= 13),\n"
            f" make,{more}\nX: y\n\nDepends: z\n"
        )
        return deb.locate(tmp_path, host.Home(tmp_path)).folder, deb.wanted(tmp_path)

    (tmp_path / "debian").mkdir()
    plain, packages = builder("")
    assert packages == ("build-essential", "debhelper", "lintian", "make")
    assert builder("") == (plain, packages)
    other, packages = builder("\n python3-more (>= 1.0~),")
    assert other != plain
    assert "python3-more" in packages
    assert "z" not in packages


def test_cleaning_up_keeps_the_current_images_and_the_packages_builder(tmp_path: Path) -> None:
    home = host.Home(tmp_path)
    kept = image.locate(suites.find("trixie"), home)
    builder = deb.locate(HERE.parents[1], home)
    old = image.Image("trixie", home.images / "trixie-0000000000")
    for each in (kept, builder, old):
        each.folder.mkdir(parents=True)
        each.lock.touch()
    image.remove_outdated(home, (builder,))
    assert [each.folder.is_dir() for each in (kept, builder, old)] == [True, True, False]


# Who owns what is left


def test_an_owner_lives_as_long_as_this_process() -> None:
    assert not host.owner_is_dead(f"scopekeeper-lab-trixie-vm-{host.owner_tag()}-1")


def test_an_owner_whose_pid_another_process_has_is_dead() -> None:
    started = host.start_time(os.getpid())
    assert started is not None
    assert host.owner_is_dead(f"scopekeeper-lab-trixie-vm-{os.getpid()}-{started - 1}-1")


def test_an_owner_that_nobody_has_collected_is_dead(tmp_path: Path) -> None:
    def stat(state: str) -> None:
        (tmp_path / "7").mkdir(exist_ok=True)
        fields = [state, *"0" * 18, "4321", "0"]
        (tmp_path / "7/stat").write_text(f"7 (a) b) {' '.join(fields)}\n")

    stat("S")
    assert not host.owner_is_dead("scopekeeper-lab-trixie-vm-7-4321-1", tmp_path)
    stat("Z")
    assert host.owner_is_dead("scopekeeper-lab-trixie-vm-7-4321-1", tmp_path)


def test_a_name_without_an_owner_is_left_alone() -> None:
    assert not host.owner_is_dead("scopekeeper-lab-of-somebody")


def test_the_cgroup2_mount_is_found_beside_version_1(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("cgroup /cg/memory cgroup rw 0 0\ncgroup2 /cg/unified cgroup2 rw 0 0\n")
    assert nspawn.cgroup_root(mounts) == Path("/cg/unified")
    mounts.write_text("proc /proc proc rw 0 0\n")
    with pytest.raises(host.LabError, match="use --vm"):
        nspawn.cgroup_root(mounts)


# What travels into the machine


def test_the_checkout_is_what_git_has_or_would_add(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    git("init")
    for name in ("kept", "gone", "new", "ignored"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("ignored\n")
    git("add", "kept", "gone", ".gitignore")
    (tmp_path / "gone").unlink()
    names = sorted(str(name) for name in payload.checkout_files(tmp_path))
    assert names == [".gitignore", "kept", "new"]


# What comes back


def _follow(lines: bytes, jobs: int = 1) -> tuple[dict[str, int], list[str]]:
    notes: list[str] = []
    watch = machine.Watch(notes.append, lambda text: None, lambda event: None)
    job = payload.Job("root", "root", ("true",))
    progress = machine.Progress(payload.Work((job,) * jobs, 1), watch, 0)
    for start in range(0, len(lines), 7):  # as it may arrive
        progress.take(lines[start : start + 7])
    return progress.statuses, notes


def test_exit_statuses_are_read_from_the_events() -> None:
    events = b'\n{"event": "boot", "number": 1}\n{"event": "exit", "job": "root", "status": 3}\n'
    assert _follow(events) == ({"root": 3}, [])


def test_a_line_that_a_power_cut_ended_is_noted_and_skipped() -> None:
    statuses, notes = _follow(b'{"event": "rep\n{"event": "exit", "job": "root", "status": 0}\n')
    assert statuses == {"root": 0}
    assert len(notes) == 1


INNER = """
import pytest

def test_passes(record_property): record_property("answer", 42)
def test_fails(): assert 1 == 2
def test_skips(): pytest.skip("no such thing here")

@pytest.mark.xfail(reason="known")
def test_fails_as_known(): assert False

@pytest.fixture
def broken(): raise RuntimeError("in the fixture")
def test_errs(broken): pass
"""


def _run_inner(folder: Path, events: Path) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "lab_relay"]
    env = os.environ | {"LAB_EVENTS": str(events), "LAB_JOB": "root", "LAB_OUT": str(folder)}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=False)


def _inner_reports(folder: Path, config: pytest.Config) -> list[pytest.TestReport]:
    """Run a pytest as a machine does, and read its reports as the host does."""
    (folder / "test_inner.py").write_text(INNER)
    (folder / "test_skipped.py").write_text(
        "import pytest\npytest.skip('not here', allow_module_level=True)\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\n")
    shutil.copy(HERE / "relay.py", folder / "lab_relay.py")
    events = folder / "events.jsonl"
    done = _run_inner(folder, events)
    assert done.returncode == 1, done.stdout
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["job"] for event in told} == {"root"}
    assert [event["count"] for event in told if event["event"] == "collected"] == [5]
    return [
        reports.report(config, "trixie:vm:root", "root", event["report"])
        for event in told
        if event["event"] in {"report", "collect"}
    ]


def test_reports_survive_the_way_to_the_host(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    made = _inner_reports(tmp_path, pytestconfig)
    outcomes = {
        report.nodeid.rpartition("::")[2]: report for report in made if report.when == "call"
    }
    prefix = "trixie:vm:root/test_inner.py::"
    whole, *made = made
    assert whole.nodeid == "trixie:vm:root/test_skipped.py"
    assert (whole.when, whole.outcome) == ("setup", "skipped")
    assert isinstance(whole.longrepr, tuple)
    assert whole.longrepr[2] == "Skipped: not here"
    assert all(report.nodeid.startswith(prefix) for report in made)
    assert outcomes["test_passes"].passed
    assert outcomes["test_passes"].user_properties == [("answer", 42)]
    assert outcomes["test_fails"].failed
    assert "assert 1 == 2" in outcomes["test_fails"].longreprtext
    assert outcomes["test_fails"].head_line == "test_fails (trixie:vm:root)"
    assert outcomes["test_fails_as_known"].skipped
    assert outcomes["test_fails_as_known"].wasxfail == "known"
    reason = outcomes["test_skips"].longrepr
    assert isinstance(reason, tuple)  # what pytest's summary of skips insists on
    assert reason[2] == "Skipped: no such thing here"
    (error,) = (report for report in made if report.when == "setup" and report.failed)
    assert error.nodeid == f"{prefix}test_errs"


CUT = """
import os, pathlib

def test_before(): assert False

def test_cuts():
    if not pathlib.Path("cut").exists():
        pathlib.Path("cut").touch()
        os._exit(9)

def test_after(): pass
"""


def test_a_pytest_that_a_reboot_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(CUT)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    shutil.copy(HERE / "relay.py", tmp_path / "lab_relay.py")
    events = tmp_path / "events.jsonl"
    assert [_run_inner(tmp_path, events).returncode for _ in range(2)] == [9, 1]
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["count"] for event in told if event["event"] == "collected"] == [3]
    assert [event["nodeid"] for event in told if event["event"] == "finish"] == [
        f"test_inner.py::test_{name}" for name in ("before", "cuts", "after")
    ]


def test_with_the_machines_only_nothing_of_the_host_is_run(tmp_path: Path) -> None:
    (tmp_path / "test_here.py").write_text("def test_here(): assert False\n")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null"]
    argv += ["--rootdir", str(tmp_path), "-p", "tests.lab.plugin", "--lab-only", str(tmp_path)]
    done = subprocess.run(argv, cwd=HERE.parent.parent, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout
    assert "1 deselected" in done.stdout


def test_paths_of_the_machine_become_the_hosts(pytestconfig: pytest.Config) -> None:
    skipped = {
        "$report_type": "TestReport",
        "nodeid": "tests/test_x.py::test_y",
        "location": ["tests/test_x.py", 3, "test_y"],
        "keywords": {},
        "outcome": "skipped",
        "longrepr": ["/srv/checkout-lab/tests/test_x.py", 4, "Skipped: why"],
        "when": "setup",
        "sections": [],
        "user_properties": [],
    }
    made = reports.report(pytestconfig, "trixie:vm:user", "user", skipped)
    assert made.longrepr == ("trixie:vm:user/tests/test_x.py", 4, "Skipped: why")


def test_the_relay_says_nothing_unless_asked(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_EVENTS", raising=False)
    relay.pytest_configure(pytestconfig)
    assert not pytestconfig.pluginmanager.hasplugin("lab-relay")
