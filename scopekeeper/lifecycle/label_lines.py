"""The lines of the launch ledger that say which label a scope has.

The label is in the scope's record, and goes with it. A member that ends while nobody watches is
then only in the ledger (``unseen_ends``), and these lines give its end the label. A launch that
joins a scope does not read its label: it writes when the scope began, and a label's line names the
scope by that. So a label also counts for members that join later, and never for a later scope of
the same name, which has a line of its own if it took the label over.
"""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from scopekeeper.data import dataclass
from scopekeeper.history.launch_ledger import MOMENT_DIGITS
from scopekeeper.scope import names, record_parser, records

_MARK = b"\0LABELLED="

Key = tuple[str, str]
"""The path of a scope's cgroup, and the BOOTTIME of its record."""


@dataclass(frozen=True, slots=True)
class Given:
    """The newest label of one scope; '' if it was removed."""

    label: str
    moment: str
    raw: bytes


Labels = Mapping[Key, Given]
NONE: Labels = MappingProxyType({})


def read(raw: bytes) -> dict[Key, Given]:
    """Return the newest label of each scope that the ledger has one of."""
    found: dict[Key, Given] = {}
    if _MARK not in raw:
        return found
    for each in raw.split(b"\n"):
        if _MARK not in each or len(each) > record_parser.SIZE_MAX:
            continue
        try:
            fields = records.loads(each.replace(b"\0", b"\n") + b"\n", ("CGROUP", "SCOPE_BORN"))
        except records.RecordError:
            continue
        key, label = (fields["CGROUP"], fields["SCOPE_BORN"]), fields.get("LABEL", "")
        moment = fields.get("LABELLED", "")
        if len(moment) != MOMENT_DIGITS or len(label) > names.SESSION_MAX or "\0" in label:
            continue
        if key not in found or found[key].moment <= moment:
            found[key] = Given(label, moment, each)
    return found


def kept(labels: Labels, wanted: Collection[Key]) -> Iterator[bytes]:
    """Yield the lines to keep for scopes that still have members in the ledger."""
    for key, given in labels.items():
        if key in wanted:
            yield b"\n%s\n" % given.raw
