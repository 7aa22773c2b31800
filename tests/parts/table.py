"""The table at the end, and the line below it that pytest would write."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from .catalogue import Part
from .results import Result

WIDTH = 80
HEAD = ("part", "machine", "passed", "failed", "skipped", "minutes", "")


def lines(results: Sequence[Result]) -> list[str]:
    """Return a row for each part that was run, and below them the reasons of what was skipped."""
    rows = [HEAD, *(_row(result) for result in results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD) - 1)]
    made = []
    for row in rows:
        cells = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        made.append("  ".join([*cells, row[-1]]).rstrip())
    return [*made, *_reasons(results)]


def _row(result: Result) -> tuple[str, ...]:
    tally, minutes = result.tally, f"{result.seconds / 60:.1f}"
    verdict = f"FAILED: {result.why}" if result.why else ""
    if result.is_absent:
        verdict = f"NOT RUN: {tally.absent[0]}"
    if not result.part.counts:
        return (result.part.name, result.part.where, "", "", "", minutes, verdict)
    counts = (str(tally.passed), str(tally.failed), str(sum(tally.skipped.values())))
    return (result.part.name, result.part.where, *counts, minutes, verdict)


def _reasons(results: Sequence[Result]) -> list[str]:
    where: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        for reason, count in result.tally.skipped.items():
            where[reason][result.part.name] += count
    if not where:
        return []
    made = ["", "skipped:"]
    for reason, parts in sorted(where.items(), key=lambda each: -sum(each[1].values())):
        named = ", ".join(f"{name} {count}" for name, count in parts.items())
        made.append(f"  {sum(parts.values()):3} {reason} ({named})")
    return made


def left_out(parts: Sequence[Part], why: str) -> list[str]:
    """Return what was not run, and the command for it."""
    if not parts:
        return []
    width = max(len(part.name) for part in parts)
    return [
        "",
        f"not run ({why}; all of it: make test-all):",
        *(
            f"  make test PARTS={part.name.ljust(width)}  # {part.where}: {part.about};"
            f" {part.minutes} min"
            for part in parts
        ),
    ]


def summary(results: Sequence[Result], seconds: float) -> str:
    """Return the sum of all parts as pytest writes it; a part that failed otherwise is an error."""
    failed = sum(result.tally.failed for result in results)
    passed = sum(result.tally.passed for result in results)
    skipped = sum(sum(result.tally.skipped.values()) for result in results)
    errors = sum(1 for result in results if result.why and not result.tally.failed)
    counts = [
        f"{failed} failed" if failed else "",
        f"{passed} passed" if passed else "",
        f"{skipped} skipped" if skipped else "",
        f"{errors} error{'s' if errors > 1 else ''}" if errors else "",
    ]
    told = ", ".join(count for count in counts if count) or "no tests ran"
    whole = int(seconds)
    clock = f" ({whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02})" if whole >= 60 else ""
    return f" {told} in {seconds:.2f}s{clock} ".center(WIDTH, "=")
