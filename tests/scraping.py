"""Reads metrics as a Prometheus would: with the parsers of prometheus_client, over HTTP."""

import http.client
import socket
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text


class Metrics:
    """The samples of one exposition."""

    def __init__(self, text: str) -> None:
        parse = of_openmetrics if text.endswith("# EOF\n") else of_text
        self._samples = [each for family in parse(text) for each in family.samples]

    def get(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples that have these labels; None if there is none."""
        found = [
            each.value
            for each in self._samples
            if each.name == name and labels.items() <= each.labels.items()
        ]
        return sum(found) if found else None

    def values(self, name: str, label: str) -> set[str]:
        """Return the values of a label in the samples of a metric."""
        return {each.labels[label] for each in self._samples if each.name == name}


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def scrape(where: str | Path | int) -> Metrics:
    """Ask a keeper at the path of its socket, or at a port of 127.0.0.1; raises OSError."""
    if isinstance(where, int):
        connection = http.client.HTTPConnection("127.0.0.1", where, timeout=60)
    else:
        connection = _Unix(str(where))
    try:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        return Metrics(text)
    finally:
        connection.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
