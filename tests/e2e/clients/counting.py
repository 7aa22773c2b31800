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
    _ends: tuple[str, ...]
    _ways: tuple[str, ...]
    """both in the order in which they are printed"""
    _rows: dict[str, dict[str, Left]] = field(default_factory=dict)

    def note(self, end: str, way: str, left: Left) -> None:
        """Keep what was counted."""
        self._rows.setdefault(end, {})[way] = left

    def lines(self) -> list[str]:
        """Return the lines to print."""
        form = "  {:26}" + " {:>34}" * len(self._ways)
        rows = [
            form.format(end, *(str(self._rows[end].get(way, "-")) for way in self._ways))
            for end in self._ends
            if end in self._rows
        ]
        return [f"{self.title}: left 10 s after its end", form.format("", *self._ways), *rows]
