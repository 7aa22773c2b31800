"""Which members were launched from which, by the LAUNCHED_IN of their records. Pure.

``run`` inside of a member makes a member of its own, maybe in another session. If ``run`` is itself
that member's command, the same process *goes on* as the new member, and leaves the old one empty.
The old one, and its scope, may be gone: then the new one's record is all that names it.

A member's processes can rewrite its record, and so only make a stop of other names stop this one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from scopekeeper.data import dataclass, replace
from scopekeeper.scope import names, resolve
from scopekeeper.scope.model import Identity, Member, Scope, Snapshot
from scopekeeper.scope.resolve import KINDS, MEMBER, RUN, SCOPE, SESSION
from scopekeeper.scope.selection import Selected, Selector, select

_MAYBE_CUT = 80
"""Characters of a leaf's name from which on the member's name in it may have been cut."""


def key_of(directory: str) -> str:
    """Return how records name the member with this leaf: ``UNIT/LEAF``."""
    return "/".join(directory.split("/")[-2:])


@dataclass(frozen=True, slots=True)
class Launcher:
    """A member that a record names as one that launched another; it may be gone."""

    unit: str
    leaf: str
    identity: Identity
    """Of its scope, by the name of that, which may be cut."""
    name: str
    member_id: str

    @property
    def key(self) -> str:
        """Return how records name it."""
        return f"{self.unit}/{self.leaf}"

    @property
    def words(self) -> str:
        """Its name for people."""
        return words(self.name, self.leaf, self.identity)

    @property
    def arguments(self) -> str:
        """What selects all that its session launched; only itself, if that key was cut."""
        import shlex

        _, _, _, is_whole = names.parse_unit(self.unit) or ("", "", "", False)
        return f"-s {shlex.quote(self.identity.session)}" if is_whole else shlex.quote(self.leaf)

    def matches(self, selector: Selector) -> bool:
        """Return whether session, lane, run and name of a selector are its own."""
        return self._is_called(selector.name) and self._is_in(
            selector.session, selector.lane, selector.run
        )

    def is_a(self, kind: str, word: str) -> bool:
        """Return whether a word names it, or its scope, in this kind of ``resolve.KINDS``."""
        if kind == SCOPE:
            return word in (self.unit, self.unit.removesuffix(names.SUFFIX))
        if kind == SESSION:
            return self._is_in(word, None, None)
        if kind == RUN:
            return self._is_in(None, None, word)
        return kind == MEMBER and (word in (self.member_id, self.leaf) or self._is_called(word))

    def _is_called(self, name: str | None) -> bool:
        if name is None:
            return True
        is_whole = len(self.leaf) < _MAYBE_CUT  # a cut one could be another member's, too
        return is_whole and names.leaf_name(name, self.member_id) == self.leaf

    def _is_in(self, session: str | None, lane: str | None, run: str | None) -> bool:
        own = self.identity
        if session is None:
            return lane in (None, own.lane) and run in (None, own.run)
        lane, run = (own.lane if lane is None else lane), (own.run if run is None else run)
        return names.unit_name(session, lane, run) == self.unit  # also if that name is cut


def launcher(key: str) -> Launcher | None:
    """Return the member that a record names so; None for a text that no launch writes."""
    unit, _, leaf = key.partition("/")
    scope, member = names.parse_unit(unit), names.parse_leaf(leaf)
    if scope is None or member is None:
        return None
    return Launcher(unit, leaf, Identity(*scope[:3]), *member)


def words(name: str, leaf: str, identity: Identity) -> str:
    """Return a member's name for people: ``time (m-time.5e0c21ab in agent:main, lane main)``."""
    run = f", run {identity.run}" if identity.run else ""
    return f"{name} ({leaf} in {identity.session}, lane {identity.lane}{run})"


@dataclass(frozen=True, slots=True)
class Launched:
    """A living member, and the nearest of its launchers that was asked for."""

    scope: Scope
    member: Member
    launcher: Launcher

    @property
    def goes_on(self) -> bool:
        """Whether the launcher's own process goes on as this member."""
        return self.launcher.key in self.member.earlier

    @property
    def selected(self) -> Selected:
        """The member, as a selection."""
        return Selected(self.scope, self.member)

    @property
    def words(self) -> str:
        """The member's name for people."""
        return words_of(self.scope, self.member)

    @property
    def origin(self) -> str:
        """One clause that says where it comes from."""
        return f"{'went on from' if self.goes_on else 'launched by'} {self.launcher.words}"


def words_of(scope: Scope, member: Member) -> str:
    """Return a member's name for people."""
    return words(member.name, member.leaf, scope.identities[0])


def trusted(snapshot: Snapshot) -> Iterator[tuple[Scope, Member]]:
    """Yield the present members whose records can be trusted, each with its scope."""
    for scope in snapshot.scopes:
        if scope.elsewhere or scope.problem or scope.claims is not None:
            continue
        for member in scope.present_members:
            if not (member.problem or member.claims):
                yield scope, member


def ends_with_launcher(member: Member) -> bool:
    """Return whether a member was not started to outlive what launched it."""
    return member.lifetime == "gateway"


def kept(snapshot: Snapshot) -> frozenset[str]:
    """Return the keys of the members that outlive what launched them."""
    return frozenset(
        key_of(member.directory)
        for _, member in trusted(snapshot)
        if member.lives and not ends_with_launcher(member)
    )


def launchers(member: Member, kept: Collection[str]) -> Iterator[Launcher]:
    """Yield the launchers of a member, the nearest first, up to one that is kept.

    What such a one has launched goes on with it, whatever becomes of those further up.
    """
    for each in filter(None, map(launcher, reversed(member.launched_in))):
        yield each
        if each.key in kept:
            return


def continuations(snapshot: Snapshot) -> dict[str, tuple[Scope, Member]]:
    """Return by key the members whose process goes on, with the one that it goes on as now."""
    return {key: (scope, member) for scope, member in trusted(snapshot) for key in member.earlier}


@dataclass(frozen=True, slots=True)
class Named:
    """What a command names: what it selects, and the words and options that may name more."""

    selected: tuple[Selected, ...]
    selector: Selector
    kinds: Mapping[str, str] | None = None
    """Words, each with the kind in which it names something; a word of no kind names nothing. None
    if there are no words."""

    def launched(
        self, snapshot: Snapshot, known: Collection[str] = (), besides: Collection[str] = ()
    ) -> list[Launched]:
        """Return the members launched from what is named, or from the members in known.

        known and besides have keys; what is selected itself, known or in besides is left out. A
        selector that narrows by more than names, as by an owner, reaches nothing that was launched.
        """
        if not replace(self.selector, name=None, session_id=None).knows_by_name:
            return []
        whole = {each.scope.directory for each in self.selected if each.member is None}
        units = {each.scope.unit for each in self.selected if each.member is None}
        keys = {key_of(each.member.directory) for each in self.selected if each.member} | {*known}
        found = []
        there = kept(snapshot) - keys
        for scope, member in trusted(snapshot):
            key = key_of(member.directory)
            if scope.directory in whole or key in keys or key in besides:
                continue
            for each in launchers(member, there):
                if each.unit in units or each.key in keys or self._names(each, member):
                    found.append(Launched(scope, member, each))
                    break
        return found

    def outliving(self, snapshot: Snapshot, known: Collection[str] = ()) -> list[Launched]:
        """Return what was launched and lives, and was started to outlive that: a stop leaves it."""
        return [
            each
            for each in self.launched(snapshot, known)
            if each.member.lives and not ends_with_launcher(each.member)
        ]

    def unreached(self, words: Iterable[str], found: Iterable[Launched]) -> tuple[str, ...]:
        """Return the words that name the launcher of none of these."""
        launchers = [each.launcher for each in found]
        return tuple(
            word
            for word in words
            if not any(each.is_a((self.kinds or {}).get(word, ""), word) for each in launchers)
        )

    def ambiguous(self, snapshot: Snapshot) -> tuple[str, list[str]] | None:
        """Return a word that is the name of several members, with these; one may be gone.

        If a member of that name is there, only such count beside it as went on.
        """
        launchers = {each.launcher.key: each.launcher for each in self.launched(snapshot)}
        for word in (word for word, kind in (self.kinds or {}).items() if kind == MEMBER):
            there = {
                key_of(each.member.directory): f"{each.member.leaf} in {each.scope.session}"
                for each in self.selected
                if each.member and word in (each.member.name, each.member.claims)
            }
            gone = {
                key: f"{each.leaf} in {each.identity.session}"
                for key, each in launchers.items()
                if each.is_a(MEMBER, word)
            }
            if len(there | gone) > 1:
                return word, list((there | gone).values())
        return None

    def _names(self, each: Launcher, member: Member) -> bool:
        """Return whether words and options name a launcher of this member, which may be gone."""
        if self.selector.session_id is not None:  # a name has none
            return False
        if self.selector.units and each.unit not in self.selector.units:
            return False
        if self.kinds is None:
            return not self.selector.names_nothing() and each.matches(self.selector)
        named = (
            each.is_a(kind, word)
            and (kind != MEMBER or each.key in member.earlier or not self._is_there(word))
            for word, kind in self.kinds.items()
        )
        return any(named) and each.matches(self.selector)

    def _is_there(self, name: str) -> bool:
        return any(each.member and each.member.name == name for each in self.selected)


def look_up(
    snapshot: Snapshot, words: Sequence[str], selector: Selector
) -> tuple[Named, tuple[str, ...]]:
    """Return what words and selector name, and the words that match nothing that is there."""
    if not words:
        return Named(tuple(select(snapshot, selector)), selector), ()
    chosen = resolve.choose(snapshot, words, selector)
    kinds = kinds_of(snapshot, words, dict(chosen.kinds), selector)
    several = [each for _, members in chosen.several for each in members]
    return Named((*chosen.selected, *several), selector, kinds), chosen.missing


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list shows."""

    scopes: list[Scope]
    """What is named, and what was launched from that and would be stopped with it, or went on."""
    missing: tuple[str, ...]
    """The words that name nothing."""
    launched: list[Launched]
    """The launched ones in these scopes."""
    outliving: list[Launched]
    """What was launched too, and a stop leaves."""
    with_outliving: list[Scope]
    """The scopes, and those of what a stop leaves."""


def listed(snapshot: Snapshot, words: Sequence[str], selector: Selector) -> Listed:
    """Return what a list shows for words and selector."""
    scopes, missing = resolve.listed(snapshot, words, selector)
    named, _ = look_up(snapshot, words, selector)
    launched = named.launched(snapshot)
    found = [each for each in launched if each.goes_on or ends_with_launcher(each.member)]
    shown = {each.directory for each in (*scopes, *(each.scope for each in found))}
    left = [each for each in launched if each not in found and each.member.lives]
    every = shown | {each.scope.directory for each in left}
    return Listed(
        [each for each in snapshot.scopes if each.directory in shown],
        named.unreached(missing, [*found, *left]),
        found,
        left,
        [each for each in snapshot.scopes if each.directory in every],
    )


def kinds_of(
    snapshot: Snapshot, words: Iterable[str], matched: Mapping[str, str], selector: Selector
) -> dict[str, str]:
    """Return the kind of each word; matched has those that name what is there.

    Of another word, the first kind in which it names a launcher of a living member, if any.
    """
    launchers = [
        each
        for _, member in trusted(snapshot)
        for each in filter(None, map(launcher, member.launched_in))
        if each.matches(selector)
    ]
    kinds = dict(matched)
    for word in words:
        found = (kind for kind in KINDS if any(each.is_a(kind, word) for each in launchers))
        if word not in kinds and (kind := next(found, "")):
            kinds[word] = kind
    return kinds
