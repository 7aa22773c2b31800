"""One trial, and what came out of it."""

from dataclasses import dataclass, field

KINDS = ("kill", "error", "pair", "beside", "program", "moment")


@dataclass
class Trial:
    """One trial: what was done, and what was wrong afterwards."""

    number: int
    step: str
    kind: str
    what: str
    struck: bool = False
    error: str = ""
    """The error that a call of it fails with."""
    rounds: int = 0
    """Reconciles until all was as it has to be."""
    wrong: list[str] = field(default_factory=list)
    log: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"#{self.number} {self.step}: {self.what}: {'; '.join(self.wrong) or 'good'}"
