"""The option ``--stderr``: what the command writes there goes to the journal, or to a file.

Loaded only by launches that ask for it. The server matters more than its log: what cannot be opened
becomes one warning, and the command keeps the stderr that it was called with.
"""

import posix

from scopekeeper.launch.program import say
from scopekeeper.short_names import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekeeper.launch.member import NewMember

_STDERR = 2


def redirect(member: "NewMember") -> "Callable[[], None] | None":
    """Replace this process's stderr as the member asks; return what takes it back.

    None is returned if it stays as it is. Call it in the member's leaf, right before execve.
    """
    try:
        opened = _open(member)
    except Exception as error:  # noqa: BLE001  the server matters more
        from scopekeeper.launch.failure import describe

        reason = error.strerror if isinstance(error, OSError) and error.strerror else None
        where = "the journal" if member.request.stderr == "journal" else "a file"
        say(f"warning: --stderr: {where} cannot have it: {reason or describe(error)}; stderr stays "
            "where it was")  # fmt: skip
        return None
    try:
        before = posix.dup(_STDERR)  # closed on exec
    except OSError:
        before = -1  # it was closed
    posix.dup2(opened, _STDERR)
    posix.set_inheritable(_STDERR, True)
    if opened != _STDERR:
        posix.close(opened)

    def take_back() -> None:
        if before >= 0:
            posix.dup2(before, _STDERR)

    return take_back


def _open(member: "NewMember") -> int:
    """Return a descriptor for the member's stderr; raises StateError, OSError."""
    from scopekeeper.stderr import files

    if member.request.stderr == files.FILE:
        from scopekeeper.stderr import bounds

        bounds.shorten_all()  # without a keeper, nothing else does it in time
        return files.create(member.leaf)
    from scopekeeper.errors import StateError
    from scopekeeper.systemd.journal_stream import open_stream

    fd = open_stream(member.leaf)
    _announce(member)
    try:
        files.note_journal(member.leaf)
    except (StateError, OSError):
        pass  # the journal has the lines; only `why` does not know
    return fd


def _announce(member: "NewMember") -> None:
    """Write an entry with our fields, which the lines of the stream cannot have."""
    from scopekeeper.safe_text import safe
    from scopekeeper.systemd.journal_stream import send_entry

    request = member.request
    where = f"{member.leaf} in {short(request.session)}, lane {short(request.lane)}"
    fields = {
        "MESSAGE": safe(f"stderr of {short(request.name)} ({where}) begins"),
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": member.leaf,
        "SCOPEKEEPER_SESSION": request.session,
        "SCOPEKEEPER_LANE": request.lane,
        "SCOPEKEEPER_RUN": request.run,
        "SCOPEKEEPER_SCOPE": member.unit,
        "SCOPEKEEPER_MEMBER": member.leaf,
    }
    send_entry({name: value for name, value in fields.items() if value})
