"""What was left after each end, side by side without and with scopekeeper."""

from dataclasses import dataclass, field

from tests.e2e.census import Process


@dataclass(frozen=True, slots=True)
class Left:
    """How many lived ten seconds after an end."""

    servers: int
    helpers: int
    commands: int

    @classmethod
    def of(cls, found: list[Process]) -> "Left":
        """Count by kind."""
        kinds = [each.kind for each in found]
        return cls(*(kinds.count(kind) for kind in ("server", "helper", "worker")))

    def __str__(self) -> str:
        named = {"server": self.servers, "helper": self.helpers, "command": self.commands}
        words = [f"{n} {name}{'s' * (n > 1)}" for name, n in named.items() if n]
        return ", ".join(words) or "0"


@dataclass(slots=True)
class Table:
    """Of one client."""

    title: str
    _rows: dict[str, dict[str, Left]] = field(default_factory=dict)

    def note(self, end: str, way: str, left: Left) -> None:
        """Keep what was counted."""
        self._rows.setdefault(end, {})[way] = left

    def lines(self) -> list[str]:
        """Return the lines to print."""
        ways = list(dict.fromkeys(way for row in self._rows.values() for way in row))
        form = "  {:22}" + " {:>34}" * len(ways)
        rows = [
            form.format(end, *(str(row.get(way, "-")) for way in ways))
            for end, row in self._rows.items()
        ]
        return [f"{self.title}: left 10 s after its end", form.format("", *ways), *rows]
