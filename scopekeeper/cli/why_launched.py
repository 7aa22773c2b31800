"""What ``why`` says of members that the target launched, and that run in other scopes."""

import shlex
from collections.abc import Iterator, Sequence

from scopekeeper.cli.show import safe_json
from scopekeeper.scope.launched import Launched

_MOST = 3
"""Members that a sentence names."""


def launched_sentences(found: Sequence[Launched]) -> Iterator[str]:
    """Yield one sentence on all of them, if there are any."""
    if found:
        named = ", ".join(each.words for each in found[:_MOST])
        more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
        session = shlex.quote(found[0].launcher.identity.session)
        yield (
            f"What was launched from it runs: {named}{more}; scopekeeper ls -s {session} lists, "
            f"and stop -s {session} ends, what was launched from that session."
        )


def launched_document(each: Launched) -> dict[str, object]:
    """Return the JSON object of one of them."""
    return {
        "session": safe_json(each.scope.session),
        "lane": safe_json(each.scope.lane),
        "unit": each.scope.unit,
        "member": safe_json(each.member.name),
        "member_id": each.member.member_id,
        "launched_by": f"{each.launcher.unit}/{each.launcher.leaf}",
    }
