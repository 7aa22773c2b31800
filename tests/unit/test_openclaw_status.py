"""What ``openclaw status`` says of a gateway that runs."""

import json
import os
import shutil
import subprocess

import pytest

from scopekeeper.errors import ManagerError
from scopekeeper.openclaw import running as gateways
from scopekeeper.openclaw.configuration import look_at
from scopekeeper.openclaw.locations import find
from scopekeeper.openclaw.running import Gateway, Uncontained
from scopekeeper.openclaw.status import (
    NEWEST_TESTED,
    Containment,
    Remedies,
    is_fine,
    of_gateway,
    of_no_gateway,
    sessions,
)
from tests.e2e import packages
from tests.machine import environment_of, eventually, text_of

SHELL = "/usr/bin/scopekeeper-shell"
TEXT = """{mcp: {servers: {
  bare: {command: "/bin/x", args: ["-a"]},
  plain: {command: "/bin/x"},
  ours: {command: "scopekeeper", args: ["run", "--", "/bin/x"]},
}}}"""


UNIT = "openclaw-gateway.service"
MEND = Remedies("INSTALL", "REWRAP", "RESTART", "LOG", "BY HAND", "CONFIG")


def gateway(unit=UNIT, **more):
    return Gateway(7, unit, 100.0, SHELL, **more)


@pytest.mark.parametrize(("report", "installed", "changed", "words"), [
    ({"identity": ["acquire"], "openclaw": "2026.9.6"}, True, 50.0, "OpenClaw 2026.9.6"),
    ({"identity": None}, True, 50.0, "with the plugin"),  # no server was started yet
    ({"identity": []}, True, 50.0, "they share one name"),
    (None, True, 50.0, "it has not loaded the plugin"),
    ({"identity": None}, True, 150.0, "started before the last change"),
    ({"identity": None}, False, 0.0, "it still runs the plugin; restart it"),
])  # fmt: skip
def test_a_gateway_is_told_by_what_it_knows(report, installed, changed, words):
    (finding,) = of_gateway(gateway(report=report), changed, MEND, installed=installed)
    assert words in finding.detail
    assert (finding.verdict is Containment.OK) == words.startswith(("OpenClaw", "with"))


@pytest.mark.parametrize(("version", "is_newer"), [
    (NEWEST_TESTED, False), ("2026.4.15", False), ("2026.9.6-1", False), ("2026.9", False),
    ("2026.9.7", True), ("2026.10.1", True), ("2027.1.0-beta.2", True), ("unknown", False),
    ("", False), ("9" * 5000, True),
])  # fmt: skip
def test_a_version_that_was_not_tested_is_named_as_such(version, is_newer):
    report = {"identity": ["acquire"], "openclaw": version}
    (finding,) = of_gateway(gateway(report=report), 50.0, MEND, installed=True)
    assert finding.verdict is Containment.OK
    assert (f"newer than {NEWEST_TESTED}" in finding.detail) is is_newer


def test_the_newest_that_is_named_is_the_newest_that_is_tested():
    versions = [tuple(map(int, each.split("."))) for each in packages.VERSIONS]
    assert ".".join(map(str, max(versions))) == NEWEST_TESTED


def test_a_process_in_no_scope_is_told_with_its_server():
    commands = [("/bin/x", "-a"), ("/bin/x",), ("/bin/y",)]
    uncontained = tuple(Uncontained(at, words) for at, words in enumerate(commands))
    found = sessions([], [gateway(uncontained=uncontained)], look_at(TEXT).bare, MEND)
    assert [each.fix for each in found] == ["INSTALL", "INSTALL", "RESTART"]
    assert [each.detail for each in found] == [
        "pid 0: /bin/x -a (server bare is not wrapped)",
        "pid 1: /bin/x (server plain is not wrapped)",
        "pid 2: /bin/y",
    ]


def test_what_a_killed_gateway_wrote_is_removed_and_what_a_living_one_did_is_not(
    tmp_path, monkeypatch
):
    living = subprocess.Popen(["openclaw", "1000"], executable=shutil.which("sleep"))
    another = subprocess.Popen(["sleep", "1000"])  # who has a gateway's number now
    ended = subprocess.Popen(["true"])
    ended.wait()
    try:
        eventually(lambda: text_of(f"/proc/{living.pid}/cmdline"))  # empty until it is loaded
        for pid in (living.pid, ended.pid, another.pid):
            (tmp_path / f"openclaw-{pid}.json").write_text(json.dumps({"pid": pid}))
        (tmp_path / "openclaw-x.json").write_text("{")
        (tmp_path / "rules").write_text("")
        monkeypatch.setattr(gateways, "_folder", lambda: str(tmp_path))
        assert [pid for pid, _ in gateways._reports()] == [living.pid]
        gateways.forget_ended()
        assert sorted(os.listdir(tmp_path)) == [f"openclaw-{living.pid}.json", "rules"]
    finally:
        for each in (living, another):
            each.kill()
            each.wait()


def test_a_gateway_that_has_just_started_is_starting():
    for now, verdict in ((105.0, Containment.STARTING), (400.0, Containment.LACKS)):
        (finding,) = of_gateway(gateway(), 50.0, MEND, installed=True, now=now)
        assert finding.verdict is verdict
    assert finding.fix == "LOG"
    assert not is_fine([finding], [])


@pytest.mark.parametrize(("state", "verdict", "fix"), [
    (None, Containment.NONE, ""),
    ("activating", Containment.STARTING, ""),
    ("failed", Containment.OFF, f"systemctl --user start {UNIT}"),
    ("inactive", Containment.OFF, f"systemctl --user start {UNIT}"),
    ("", Containment.OFF, f"systemctl --user start {UNIT}"),
])  # fmt: skip
def test_a_gateway_that_is_down_is_not_ok(state, verdict, fix):
    finding = of_no_gateway(UNIT, state)
    assert (finding.verdict, finding.fix) == (verdict, fix)
    assert is_fine([finding], []) == (state is None)


def test_every_gap_comes_with_a_command_that_mends_it():
    started = {"identity": None}
    for changed, installed, fix in ((150.0, True, "RESTART"), (0.0, False, "RESTART")):
        (finding,) = of_gateway(gateway(report=started), changed, MEND, installed=installed)
        assert finding.fix == fix
    (finding,) = of_gateway(gateway("", report=started), 150.0, MEND, installed=True)
    assert "BY HAND" in finding.fix


def test_a_model_that_is_a_program_is_no_gap_but_what_it_starts_is():
    model = Uncontained(8, ("claude", "-p"), is_backend=True)
    found = sessions([], [gateway(uncontained=(model,))], {}, MEND)
    assert (found[0].state, is_fine([], found)) == ("backend", True)
    below = Uncontained(9, ("/bin/x",), client="claude-code")
    found = sessions([], [gateway(uncontained=(model, below))], {}, MEND)
    assert found[1].fix == "scopekeeper wrap --client claude-code"
    assert not is_fine([], found)
    # a server that is the same program is a server
    found = sessions([], [gateway(uncontained=(model,))], {model.command: "s"}, MEND)
    assert (found[0].state, found[0].fix) == ("not contained", "INSTALL")


def test_the_models_of_a_configuration_are_known():
    text = """{agents: {defaults: {cliBackends: {a: {command: "/opt/x"}, b: {}, c: 1}}}}"""
    assert look_at(text).backends == {"x"}
    assert look_at("{agents: 1}").backends == frozenset()
    assert gateways._backend(["/usr/bin/claude"], ()) == "claude-code"
    assert gateways._backend(["/opt/x", "y"], {"x"}) == "x"
    assert gateways._backend(["/opt/y"], {"x"}) == ""


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """Start processes that are named like gateways, each with a report."""
    started = []
    monkeypatch.setattr(gateways, "_folder", lambda: str(tmp_path))

    def start(variables, **report):
        process = subprocess.Popen(["openclaw", "1000"], executable=shutil.which("sleep"),
                                   env=variables)  # fmt: skip
        started.append(process)
        # the kernel shows no environment until the program is loaded, which is after its exec
        eventually(lambda: environment_of(process.pid))
        document = json.dumps({"pid": process.pid, "identity": None, **report})
        (tmp_path / f"openclaw-{process.pid}.json").write_text(document)
        return process.pid

    yield start
    for each in started:
        each.kill()
        each.wait()


def no_manager(*_):
    raise ManagerError("none here")


def test_profiles_are_not_mixed(reports, tmp_path, monkeypatch):
    monkeypatch.setattr(gateways.calls, "service_property", no_manager)
    home = {"HOME": str(tmp_path)}
    mine = reports(home, environment=home)
    # --profile sets variables inside of the process only
    work = reports(home, environment={**home, "OPENCLAW_PROFILE": "work"})
    older = reports({**home, "OPENCLAW_STATE_DIR": f"{tmp_path}/.openclaw-work"})
    for profile, pids in (("", {mine}), ("work", {work, older})):
        places = find(home, profile=profile)
        assert {each.pid for each in gateways.running(places, None)} == pids


def test_the_gateway_of_a_unit_is_the_one_with_the_plugin(reports, tmp_path, monkeypatch):
    """OpenClaw respawns itself: the main process of the unit only waits for the gateway."""
    home = {"HOME": str(tmp_path)}
    pid = reports(home, environment=home)
    main = subprocess.Popen(["sleep", "1000"])
    try:
        monkeypatch.setattr(gateways.calls, "service_property", lambda *_: str(main.pid))
        monkeypatch.setattr(gateways.cgroupfs, "path_of", lambda _: f"/user/{UNIT}")
        monkeypatch.setattr(gateways.cgroupfs, "own_processes", lambda _: [])
        (found,) = gateways.running(find(home), None)
        assert (found.pid, found.unit) == (pid, UNIT)
        other = find(home, profile="work")
        assert [each.pid for each in gateways.running(other, None)] == [main.pid]
    finally:
        main.kill()
        main.wait()
