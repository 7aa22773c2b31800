"""Writes facts down for Prometheus, by prometheus_client.

The library takes 0.12 s and 14 MiB to import, so only what publishes metrics imports this module.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from scopekeeper.metrics import names
from scopekeeper.metrics.facts import Facts, Health, HostFacts
from scopekeeper.metrics.names import Metric
from scopekeeper.version import __version__

OPENMETRICS, TEXT = "openmetrics", "text"
"""The OpenMetrics text format, and Prometheus' own, which node_exporter and promtool read."""
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Samples = Iterable[tuple[tuple[str, ...], float]]
"""The values of the labels of each sample, and the sample's own."""


class _Collected:
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """Return everything that is published."""
        return self._families


def write(facts: Sequence[Facts], form: str, health: Health | None = None) -> bytes:
    """Return facts of each user in a format, and of the keeper that serves them, if one does."""
    return _written(_of_machine(facts, health), form)


def write_hosts(hosts: Mapping[str, HostFacts | None], form: str) -> bytes:
    """Return the facts of several hosts in a format; None is a host that has not answered."""
    return _written(_of_hosts(hosts), form)


def _written(families: Iterable[Family], form: str) -> bytes:
    generate: Any = (
        openmetrics.generate_latest if form == OPENMETRICS else exposition.generate_latest
    )
    content: bytes = generate(_Collected(families))  # it takes whatever has collect()
    return content


def _of_machine(facts: Sequence[Facts], health: Health | None) -> Iterator[Family]:
    for metric, samples in _samples(__version__, facts):
        yield _family(metric, samples)
    if health is not None:
        yield from _of_keeper(health)
        yield from ProcessCollector(registry=None).collect()


def _of_hosts(hosts: Mapping[str, HostFacts | None]) -> Iterator[Family]:
    """Return each family once, with the samples of all hosts: a second one would be invalid."""
    yield _family(names.HOST_UP, [((host,), each is not None) for host, each in hosts.items()])
    found: dict[Metric, list[tuple[tuple[str, ...], float]]] = {}
    for host, each in hosts.items():
        for metric, samples in () if each is None else _samples(each.version, each.users):
            of_all = found.setdefault(metric, [])
            of_all += (((host, *values), value) for values, value in samples)
    for metric, of_all in found.items():
        yield _family(replace(metric, labels=("host", *metric.labels)), of_all)


def negotiate(accept: str) -> tuple[str, str]:
    """Return the format for an Accept header, and its Content-Type."""
    words = (each.partition(";")[0].strip() for each in accept.split(","))
    if "application/openmetrics-text" in words:
        return OPENMETRICS, openmetrics.CONTENT_TYPE_LATEST
    return TEXT, TEXT_TYPE


def _family(metric: Metric, samples: Samples) -> Family:
    family: Family
    if metric.type == "info":
        info = InfoMetricFamily(metric.name, metric.help)
        for values, _ in samples:
            info.add_metric((), dict(zip(metric.labels, values, strict=True)))
        return info
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _samples(version: str, facts: Sequence[Facts]) -> Iterator[tuple[Metric, Samples]]:
    yield names.BUILD, [((version,), 1)]
    sessions = [(each.user, value, s) for each in facts for value, s in each.sessions.items()]
    yield names.SCOPES, [((f.user, *labels), n) for f in facts for *labels, n in f.scopes]
    yield (names.MEMBERS, [((f.user, state), n) for f in facts for state, n in f.members.items()])
    yield names.PROCESSES, [((u, value), s.processes) for u, value, s in sessions]
    yield (
        names.MEMORY,
        [((u, value), s.memory_bytes) for u, value, s in sessions if s.memory_bytes is not None],
    )
    yield (
        names.CPU,
        [((u, value), s.cpu_seconds) for u, value, s in sessions if s.cpu_seconds is not None],
    )
    yield (
        names.PRESSURE,
        [
            ((u, value, resource), share)
            for u, value, s in sessions
            for resource, share in sorted(s.pressure.items())
        ],
    )
    yield names.ESCAPED, [((f.user,), f.escaped) for f in facts]
    yield (
        names.ENDS,
        [((f.user, reason), n) for f in facts for reason, n in (f.ends or {}).items()],
    )
    yield (names.FAILED, [((f.user, error), n) for f in facts for error, n in f.failed.items()])
    yield names.UNREAD, [((f.user,), f.unread) for f in facts]
    yield names.HISTORY, [((f.user,), f.ends is not None) for f in facts]
    yield names.KEEPER, [((f.user,), f.keeper_runs) for f in facts]


def _of_keeper(health: Health) -> Iterator[Family]:
    for metric, value in (
        (names.POLICY, health.policy_valid),
        (names.BUS, health.bus_connected),
        (names.WATCHED, health.watched_scopes),
        (names.RUNS, health.runs),
        (names.UNWRITTEN, health.unwritten_ends),
        (names.ORPHANS, health.orphans_found),
    ):
        yield _family(metric, [((health.user,), value)])
    yield _family(
        names.MESSAGES, [((health.user, level), n) for level, n in health.log_messages.items()]
    )
