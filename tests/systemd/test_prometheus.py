"""A real Prometheus and a real node_exporter read our metrics; the alerts and the dashboard work.

The programs are those of Debian's archive, in a folder that ``make test-prometheus`` shows to the
machine: tests/prometheus.
"""

import contextlib
import json
import os
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import blocks
from tests.docs.how_to import section
from tests.machine import FOREVER, PROGRAM, Scopekeeper, eventually
from tests.scraping import free_port

from .fleet import Fleet
from .guard import Keeper

PROGRAMS = Path("/opt/prometheus/bin")
EXAMPLES = Path(__file__).parents[2] / "examples/prometheus"
SESSION = 'agent:"main"\nx\\y{a="b"} 1 # é'

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(not PROGRAMS.exists(), reason=f"no {PROGRAMS}: make test-prometheus has it"),
]


def promtool(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAMS / "promtool"), *arguments], capture_output=True, text=True, **how
    )


def test_promtool_has_no_complaint(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path
) -> None:
    guard.start("--metrics", str(tmp_path / "m"))
    keeper.member("-s", session, "--", *FOREVER)
    keeper.member("-s", SESSION, "--", *FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0
    (line,) = blocks(section("metrics.md", "Check it"), "sh")
    path = f"{PROGRAMS}:{Path(PROGRAM).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = promtool("check", "metrics", input=served(tmp_path / "m"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_has_no_complaint_about_several_hosts(
    keeper: Scopekeeper, session: str, fleet: Fleet
) -> None:
    keeper.member("-s", session, "--", *FOREVER)
    keeper.member("-s", SESSION, "--", *FOREVER)
    assert fleet.servers
    done = keeper.call("metrics", "-H", "@both", "-H", "down", "--format", "text")
    assert done.returncode == 1
    done = promtool("check", "metrics", input=done.stdout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def served(path: Path) -> str:
    """Return what a keeper serves in the text format at a socket."""
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(b'GET /metrics HTTP/1.1\\r\\n\\r\\n'); print(s.makefile().read(), end='')"
    )
    eventually(path.exists)
    done = subprocess.run(["python3", "-c", ask, path], capture_output=True, text=True, check=True)
    return done.stdout.partition("\n\n")[2]


def test_the_rules_do_what_their_test_says() -> None:
    lines = "".join(blocks(section("metrics.md", "Alerts and a dashboard"), "sh")).splitlines()
    assert len(lines) == 2
    for line in lines:
        done = promtool(*line.split()[1:], cwd=EXAMPLES)
        assert done.returncode == 0, done.stdout + done.stderr
    assert promtool("check", "config", "prometheus.yml", cwd=EXAMPLES).returncode == 0


class Prometheus:
    """A Prometheus with the configuration and the rules of the examples, faster."""

    def __init__(self, keeper: Scopekeeper, folder: Path, served: int, node: int) -> None:
        self._port = free_port()
        text = (EXAMPLES / "prometheus.yml").read_text()
        text = text.replace("15s", "1s").replace("9464", str(served)).replace("9100", str(node))
        folder.mkdir()
        (folder / "prometheus.yml").write_text(text)
        rules = (EXAMPLES / "scopekeeper.rules.yml").read_text()
        (folder / "scopekeeper.rules.yml").write_text(rules)
        self.log = folder / "log"
        with self.log.open("w") as log:
            keeper.popen(
                [str(PROGRAMS / "prometheus"), f"--config.file={folder}/prometheus.yml",
                 f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address=127.0.0.1:{self._port}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self._is_ready, pause=0.2)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            self.ask("/-/ready")
            return True
        return False

    def ask(self, path: str, **values: str) -> bytes:
        """Call its HTTP API; raises OSError."""
        url = f"http://127.0.0.1:{self._port}{path}?{urllib.parse.urlencode(values)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of a query; raises OSError if it is invalid."""
        answer = json.loads(self.ask("/api/v1/query", query=expression))
        assert answer["status"] == "success"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Return the value of a query with one series; None for one without."""
        found = self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None


@pytest.fixture
def node(keeper: Scopekeeper, tmp_path: Path) -> tuple[int, Path]:
    """The port of a node_exporter, and the folder that it reads."""
    folder, port = tmp_path / "collected", free_port()
    folder.mkdir()
    with (tmp_path / "node.log").open("w") as log:
        keeper.popen(
            [str(PROGRAMS / "prometheus-node-exporter"), "--collector.disable-defaults",
             "--collector.textfile", f"--collector.textfile.directory={folder}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    return port, folder


def test_a_prometheus_scrapes_the_keeper_and_the_file_and_the_dashboard_has_data(
    guard: Keeper, keeper: Scopekeeper, session: str, node: tuple[int, Path], tmp_path: Path
) -> None:
    served, (node_port, folder) = free_port(), node
    guard.start("--metrics", str(served))
    keeper.member("-s", SESSION, "--", *FOREVER)
    keeper.member("-s", session, "-n", "gone", "--", *FOREVER)
    file = folder / "scopekeeper.prom"
    assert keeper.call("metrics", "--textfile", str(file)).returncode == 0
    prometheus = Prometheus(keeper, tmp_path / "prometheus", served, node_port)

    for job in ("scopekeeper", "node"):
        of_job = f'job="{job}"'
        eventually(lambda of_job=of_job: prometheus.value(f"up{{{of_job}}}") == 1, pause=0.2)
        found = eventually(
            lambda of_job=of_job: prometheus.query(
                f"scopekeeper_session_processes{{{of_job}}} > 0"
            ),
            pause=0.2,
        )
        assert {each["metric"]["session"] for each in found} == {session, _shown(SESSION)}
    assert prometheus.query("node_textfile_mtime_seconds")
    assert prometheus.value("sum(node_textfile_scrape_error)") == 0

    # what ends is counted, and seen as a rate
    stopped = 'scopekeeper_ends_total{job="scopekeeper", reason="stopped by request"}'
    eventually(lambda: prometheus.value(stopped) == 0, pause=0.2)
    assert keeper.call("stop", "-s", session).returncode == 0
    eventually(lambda: prometheus.value(stopped) == 1, pause=0.2)
    eventually(lambda: (prometheus.value(f"increase({stopped}[1m])") or 0) > 0, pause=0.2)

    # the types and the help that it has understood
    known = json.loads(prometheus.ask("/api/v1/metadata"))["data"]
    types = {name: {each["type"] for each in found} for name, found in known.items()}
    assert types["scopekeeper_session_memory_bytes"] == {"gauge"}
    ends = types.get("scopekeeper_ends") or types["scopekeeper_ends_total"]
    assert ends == {"counter"}

    _rules_and_dashboard(prometheus)


def _rules_and_dashboard(prometheus: Prometheus) -> None:
    groups = json.loads(eventually(lambda: _healthy(prometheus), pause=0.5))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 10
    assert {rule["health"] for rule in rules} == {"ok"}
    # the keeper is of a test's own unit, and no node_exporter's file is old
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing == set()

    board = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    empty = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            for name in ("instance", "user"):
                expression = expression.replace(f"${name}", ".*")
            if not prometheus.query(expression):
                empty.add(panel["title"])
    # nothing has failed, and no scope waits here; memory where no controller is delegated
    assert empty <= {"Failed launches", "Pressure by session", "Memory by session"}
    for each in board["templating"]["list"][1:]:
        name, label = each["query"]["query"].removeprefix("label_values(")[:-1].split(", ")
        assert all(label in found["metric"] for found in prometheus.query(name))


def _healthy(prometheus: Prometheus) -> bytes:
    """Return the rules once each was evaluated."""
    found = prometheus.ask("/api/v1/rules")
    return found if b'"health":"unknown"' not in found else b""


def _shown(session: str) -> str:
    return session.replace("\n", "\\n")
