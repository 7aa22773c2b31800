"""What ``why`` says of members that the target launched, and that run in other scopes."""

from collections.abc import Iterator, Sequence

from scopekeeper.cli.outliving import command_to_end, named
from scopekeeper.cli.show import safe_json
from scopekeeper.scope.launched import Launched, ends_with_launcher

_MOST = 3
"""Members that a sentence names, and launching sessions that have a sentence."""


def launched_sentences(found: Sequence[Launched]) -> Iterator[str]:
    """Yield a sentence on those that a stop of their launcher ends, and one on the others."""
    ending = [each for each in found if ends_with_launcher(each.member)]
    by_launcher: dict[str, list[Launched]] = {}
    for each in ending:
        by_launcher.setdefault(each.launcher.arguments, []).append(each)
    for arguments, launched in list(by_launcher.items())[:_MOST]:
        names = _first(launched, [each.words for each in launched])
        yield (
            f"What was launched from it runs: {names}; list all of it: scopekeeper ls {arguments}; "
            f"end all of it: scopekeeper stop {arguments}."
        )
    rest = [each for launched in list(by_launcher.values())[_MOST:] for each in launched]
    if rest:
        yield f"{len(rest)} more that were launched from it run; scopekeeper ls lists all."
    left = [each for each in found if not ends_with_launcher(each.member)]
    if left:
        names = _first(left, [f"{named(each)}, end it: {command_to_end(each)}" for each in left])
        yield f"What was launched from it and outlives a stop of it runs: {names}."


def _first(found: Sequence[Launched], texts: Sequence[str]) -> str:
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return "; ".join(texts[:_MOST]) + more


def launched_document(each: Launched) -> dict[str, object]:
    """Return the JSON object of one of them."""
    return {
        "session": safe_json(each.scope.session),
        "lane": safe_json(each.scope.lane),
        "unit": each.scope.unit,
        "member": safe_json(each.member.name),
        "member_id": each.member.member_id,
        "lifetime": each.member.lifetime,
        "launched_by": f"{each.launcher.unit}/{each.launcher.leaf}",
    }
