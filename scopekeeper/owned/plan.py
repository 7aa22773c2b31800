"""Decide which claims are due. Pure: claims and states of their holders in, verdicts out."""

from collections.abc import Sequence
from dataclasses import dataclass

from scopekeeper.owned.claim import Claim, are_related, containers_differ


@dataclass(frozen=True, slots=True)
class HolderState:
    """Whether a holder is proved to be gone, and the evidence."""

    gone: bool
    evidence: str
    unwatched: bool = False
    """Whether its end changes no cgroup, so that it has to be checked again."""


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """One claim, and whether its path may be removed now."""

    claim: Claim
    due: bool
    evidence: str

    @property
    def state(self) -> str:
        """One of held, due, failed."""
        if not self.due:
            return "held"
        return "failed" if self.claim.problem else "due"


def judge(claims: Sequence[tuple[Claim, HolderState]]) -> list[ClaimVerdict]:
    """Return a verdict for each: due if its holder is gone and no held claim overlaps its path.

    A held claim protects its path, everything below it and every folder above it.
    """
    held = [claim for claim, state in claims if not state.gone]
    verdicts = []
    for claim, state in claims:
        keeping = next((each for each in held if _concerns(each, claim)), None)
        if not state.gone:
            verdicts.append(ClaimVerdict(claim, due=False, evidence=state.evidence))
        elif keeping is not None:
            where = "it" if keeping.path == claim.path else keeping.path
            evidence = f"{state.evidence}; {keeping.holder.label} still has {where}"
            verdicts.append(ClaimVerdict(claim, due=False, evidence=evidence))
        else:
            verdicts.append(ClaimVerdict(claim, due=True, evidence=state.evidence))
    return verdicts


def _concerns(held: Claim, claim: Claim) -> bool:
    return not containers_differ(held, claim) and are_related(held.path, claim.path)
