"""The metrics: names, types, labels and help. Pure; docs/metrics.md lists them.

Names as Prometheus wants them (https://prometheus.io/docs/practices/naming/).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str
    """Without the suffix that a counter's or an info's samples have."""
    type: str
    """``gauge``, ``counter`` or ``info``."""
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def sample(self) -> str:
        """The name of its samples."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.type, "")


BUILD = Metric(
    "scopekeeper_build", "info", "The version of scopekeeper that published this.", ("version",)
)
SCOPES = Metric(
    "scopekeeper_scopes", "gauge", "Scopes, by lane class, kind and state.",
    ("user", "lane", "kind", "state"),
)  # fmt: skip
MEMBERS = Metric(
    "scopekeeper_members", "gauge", "Members with a living process, or that wait for their first.",
    ("user", "state"),
)  # fmt: skip
PROCESSES = Metric(
    "scopekeeper_session_processes", "gauge", "Processes in the scopes of a session.",
    ("user", "session"),
)  # fmt: skip
MEMORY = Metric(
    "scopekeeper_session_memory_bytes", "gauge", "Memory of the scopes of a session.",
    ("user", "session"), "bytes",
)  # fmt: skip
CPU = Metric(
    "scopekeeper_session_cpu_seconds", "counter",
    "CPU time that the scopes of a session have used since boot.", ("user", "session"), "seconds",
)  # fmt: skip
PRESSURE = Metric(
    "scopekeeper_session_pressure_ratio", "gauge",
    "Share of the last minute in which a process waited for a resource, in the scope of the "
    "session that waited most.",
    ("user", "session", "resource"), "ratio",
)  # fmt: skip
ESCAPED = Metric(
    "scopekeeper_escaped_processes", "gauge", "Processes that left their scope.", ("user",)
)
ENDS = Metric(
    "scopekeeper_ends", "counter", "Members that ended, by the reason in the history.",
    ("user", "reason"),
)  # fmt: skip
FAILED = Metric(
    "scopekeeper_launches_failed", "counter",
    "Launches since boot that failed or went on uncontained, by the kind of error.",
    ("user", "error"),
)  # fmt: skip
UNREAD = Metric(
    "scopekeeper_unread_cgroups", "gauge", "Cgroups that could not be read, and are not counted.",
    ("user",),
)  # fmt: skip
HISTORY = Metric(
    "scopekeeper_history_readable", "gauge", "Whether the history could be read: 1 or 0.", ("user",)
)
KEEPER = Metric("scopekeeper_keeper_running", "gauge", "Whether a keeper runs: 1 or 0.", ("user",))
HOST_UP = Metric("scopekeeper_host_up", "gauge", "Whether the host answered: 1 or 0.", ("host",))
"""What only a call that asks other hosts prints; all other metrics have its label there, too."""
OF_USERS = (
    BUILD, SCOPES, MEMBERS, PROCESSES, MEMORY, CPU, PRESSURE, ESCAPED, ENDS, FAILED, UNREAD,
    HISTORY, KEEPER,
)  # fmt: skip
"""What the command prints, and a keeper serves."""

POLICY = Metric(
    "scopekeeper_keeper_policy_valid", "gauge",
    "Whether the rules in the files are valid, and so in force: 1 or 0.", ("user",),
)  # fmt: skip
BUS = Metric(
    "scopekeeper_keeper_bus_connected", "gauge", "Whether the keeper is on the bus: 1 or 0.",
    ("user",),
)  # fmt: skip
WATCHED = Metric(
    "scopekeeper_keeper_watched_scopes", "gauge", "Scopes that the keeper follows.", ("user",)
)
RUNS = Metric(
    "scopekeeper_keeper_runs", "gauge", "Runs whose terminal the keeper holds.", ("user",)
)
UNWRITTEN = Metric(
    "scopekeeper_keeper_unwritten_ends", "gauge", "Ends that are not in the history yet.", ("user",)
)
ORPHANS = Metric(
    "scopekeeper_keeper_orphans_found", "counter",
    "Members without their owner that the keeper found since it started.", ("user",),
)  # fmt: skip
MESSAGES = Metric(
    "scopekeeper_keeper_log_messages", "counter",
    "Messages that the keeper logged since it started.", ("user", "level"),
)  # fmt: skip
OF_KEEPER = (POLICY, BUS, WATCHED, RUNS, UNWRITTEN, ORPHANS, MESSAGES)
"""What only a keeper serves, beside the process's own."""
OF_PROCESS = (
    "process_cpu_seconds_total", "process_max_fds", "process_open_fds",
    "process_resident_memory_bytes", "process_start_time_seconds", "process_virtual_memory_bytes",
)  # fmt: skip
"""Those of prometheus_client about the keeper's process."""


def all_samples() -> set[str]:
    """Return the names of all samples."""
    return {each.sample for each in (HOST_UP, *OF_USERS, *OF_KEEPER)} | set(OF_PROCESS)
