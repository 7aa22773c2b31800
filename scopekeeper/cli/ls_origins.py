"""What ``ls`` says of members that others launched, or that went on as others."""

from collections.abc import Iterable, Mapping

from scopekeeper.scope.launched import Launched, ends_with_launcher, key_of, launcher, words_of
from scopekeeper.scope.model import Member, Scope


class Origins:
    """Where members come from: those that were asked for by the names of their launchers.

    launched has those whose launchers were asked for. went_on has by key the members whose process
    goes on, with the one that it goes on as.
    """

    def __init__(
        self, launched: Iterable[Launched], went_on: Mapping[str, tuple[Scope, Member]]
    ) -> None:
        self._launched = {each.member.directory: each for each in launched}
        self._went_on = went_on

    def became(self, member: Member) -> str:
        """Return as what an empty member went on; '' if it did not."""
        following = self._went_on.get(key_of(member.directory))
        return "" if following is None or member.lives else f"went on as {words_of(*following)}"

    def of_member(self, member: Member) -> str:
        """Return where a member comes from; '' if it was neither asked for so, nor went on."""
        known = self._launched.get(member.directory)
        if known is not None:
            return _origin(known)
        before = next(filter(None, map(launcher, reversed(member.earlier))), None)
        return "" if before is None else f"went on from {before.words}"

    def of_scope(self, scope: Scope) -> list[str]:
        """Return why a scope is listed, in one line for each launcher of its members."""
        found = [x for m in scope.members if (x := self._launched.get(m.directory)) is not None]
        texts = (f"{x.member.name} {_origin(x)}" if x.goes_on else _origin(x) for x in found)
        return list(dict.fromkeys(texts))


def _origin(each: Launched) -> str:
    """Return where it comes from, and whether a stop of that leaves it."""
    if each.goes_on or ends_with_launcher(each.member):
        return each.origin
    return f"{each.origin}, to outlive it: lifetime {each.member.lifetime}"
