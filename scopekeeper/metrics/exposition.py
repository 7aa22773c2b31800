"""Writes facts down for Prometheus, by prometheus_client.

The library takes 0.12 s and 14 MiB to import, so only what publishes metrics imports this module.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from scopekeeper.metrics import names
from scopekeeper.metrics.facts import Facts, Health
from scopekeeper.metrics.names import Metric
from scopekeeper.version import __version__

OPENMETRICS, TEXT = "openmetrics", "text"
"""The OpenMetrics text format, and Prometheus' own, which node_exporter and promtool read."""
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Samples = Iterable[tuple[tuple[str, ...], float]]
"""The values of the labels of each sample, and the sample's own."""


class _Collected:
    def __init__(self, facts: Sequence[Facts], health: Health | None) -> None:
        self._facts, self._health = facts, health

    def collect(self) -> Iterator[Family]:
        """Return everything that is published."""
        yield _family(names.BUILD, [((__version__,), 1)])
        yield from _of_users(self._facts)
        if self._health is not None:
            yield from _of_keeper(self._health)
            yield from ProcessCollector(registry=None).collect()


def write(facts: Sequence[Facts], form: str, health: Health | None = None) -> bytes:
    """Return facts of each user in a format, and of the keeper that serves them, if one does."""
    generate: Any = (
        openmetrics.generate_latest if form == OPENMETRICS else exposition.generate_latest
    )
    content: bytes = generate(_Collected(facts, health))  # it takes whatever has collect()
    return content


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


def _of_users(facts: Sequence[Facts]) -> Iterator[Family]:
    sessions = [(each.user, value, s) for each in facts for value, s in each.sessions.items()]
    yield _family(names.SCOPES, [((f.user, *labels), n) for f in facts for *labels, n in f.scopes])
    yield _family(
        names.MEMBERS, [((f.user, state), n) for f in facts for state, n in f.members.items()]
    )
    yield _family(names.PROCESSES, [((u, value), s.processes) for u, value, s in sessions])
    yield _family(
        names.MEMORY,
        [((u, value), s.memory_bytes) for u, value, s in sessions if s.memory_bytes is not None],
    )
    yield _family(
        names.CPU,
        [((u, value), s.cpu_seconds) for u, value, s in sessions if s.cpu_seconds is not None],
    )
    yield _family(
        names.PRESSURE,
        [
            ((u, value, resource), share)
            for u, value, s in sessions
            for resource, share in sorted(s.pressure.items())
        ],
    )
    yield _family(names.ESCAPED, [((f.user,), f.escaped) for f in facts])
    yield _family(
        names.ENDS, [((f.user, reason), n) for f in facts for reason, n in (f.ends or {}).items()]
    )
    yield _family(
        names.FAILED, [((f.user, error), n) for f in facts for error, n in f.failed.items()]
    )
    yield _family(names.UNREAD, [((f.user,), f.unread) for f in facts])
    yield _family(names.HISTORY, [((f.user,), f.ends is not None) for f in facts])
    yield _family(names.KEEPER, [((f.user,), f.keeper_runs) for f in facts])


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
