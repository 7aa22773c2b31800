"""What ``openclaw status`` says of a gateway that runs."""

import json
import os
import shutil
import subprocess

import pytest

from scopekeeper.openclaw import running as gateways
from scopekeeper.openclaw.configuration import look_at
from scopekeeper.openclaw.running import Gateway, Uncontained
from scopekeeper.openclaw.status import Containment, of_gateway, sessions

SHELL = "/usr/bin/scopekeeper-shell"
TEXT = """{mcp: {servers: {
  bare: {command: "/bin/x", args: ["-a"]},
  plain: {command: "/bin/x"},
  ours: {command: "scopekeeper", args: ["run", "--", "/bin/x"]},
}}}"""


def gateway(**more):
    return Gateway(7, "openclaw-gateway.service", 100.0, SHELL, **more)


@pytest.mark.parametrize(("report", "installed", "changed", "words"), [
    ({"identity": ["acquire"], "openclaw": "2026.9.6"}, True, 50.0, "OpenClaw 2026.9.6"),
    ({"identity": None}, True, 50.0, "with the plugin"),  # no server was started yet
    ({"identity": []}, True, 50.0, "they share one name"),
    (None, True, 50.0, "it has not loaded the plugin"),
    ({"identity": None}, True, 150.0, "started before the last change"),
    ({"identity": None}, False, 0.0, "it still runs the plugin; restart it"),
])  # fmt: skip
def test_a_gateway_is_told_by_what_it_knows(report, installed, changed, words):
    (finding,) = of_gateway(gateway(report=report), changed, installed=installed)
    assert words in finding.detail
    assert (finding.verdict is Containment.OK) == words.startswith(("OpenClaw", "with"))


def test_a_process_in_no_scope_is_told_with_its_server():
    commands = [("/bin/x", "-a"), ("/bin/x",), ("/bin/y",)]
    uncontained = tuple(Uncontained(at, words) for at, words in enumerate(commands))
    found = sessions([], [gateway(uncontained=uncontained)], look_at(TEXT).bare)
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
