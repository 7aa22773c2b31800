"""The process that a hook leaves behind.

At the start of a session it labels what the client has started (``client_label``). At the end, it
waits for the client's end, and stops what is left then. A hook only announces an end. The proof is
the end of the client's process: earlier, nothing that it started is stopped, with one exception.
Clients that go on with another session, and start its servers anew, name the session that has
ended.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence

from scopekeeper.clients import known
from scopekeeper.clients.hooks import Hooks
from scopekeeper.hook import client_label, client_process, event
from scopekeeper.hook.client_process import Ancestor, ClientProcess, Watch
from scopekeeper.kernel.proc import mount_point
from scopekeeper.safe_text import safe
from scopekeeper.scope.nearby import About
from scopekeeper.scope.snapshot import Reader
from scopekeeper.systemd import journal

PATIENCE = 30.0
"""Seconds from the hook's start until the client has ended; it takes about one."""
SETTLING = 2.0
"""Seconds in which a client that goes on ends what its session has started."""
_SHOWN = 64

Command = Callable[[list[str]], object]


def run(
    words: Sequence[str], event_fd: int, above: Sequence[Ancestor], began: float, then: Command
) -> None:
    """Do what a hook is for. Never raises; a line in the journal names what is wrong.

    event_fd is the hook's stdin, which is read and closed, or -1; began is when the hook began.
    then runs a command.
    """
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else no command can be waited for
        text = event.read(event_fd) if event_fd >= 0 else b""
        problem = _run(words, text, above, began, then)
    except Exception as error:  # noqa: BLE001  nobody would see a traceback
        problem = f"{type(error).__name__}: {error}"
    if problem:
        shown = " ".join(word[:_SHOWN] for word in words[:2])
        line = safe(f"hook {shown}: {problem}")
        entry = {"MESSAGE": line, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "scopekeeper"}
        journal.send([entry])


def _run(
    words: Sequence[str], text: bytes, above: Sequence[Ancestor], began: float, then: Command
) -> str:
    """Return what is wrong, '' if nothing is."""
    if len(words) != 2:
        return "it takes a client and an event: scopekeeper hook CLIENT EVENT"
    warnings: list[str] = []
    clients = known.read(warnings)
    client, name = known.named(words[0], clients), words[1]
    entry = client.hooks if client else None
    if client is None or entry is None:
        return f"no such client; {_listed(sorted(each.short for each in clients if each.hooks))}"
    if not (entry.is_start(name) or entry.is_end(name)):
        return f"no event of this client; {_listed([*entry.start, *entry.end])}"
    variable = os.environ.get(entry.pid, "") if entry.pid else ""
    rows = [each.row for each in clients if each.is_looked_for or each is client]
    process = client_process.find(above, rows, client.name, variable)
    if process is not None:
        happened = event.parse(text, entry.id)
        if entry.is_end(name):
            _end(entry, client.prefix, process, happened, began, then)
        else:
            warnings.append(_start(entry, client.prefix, process, happened, began))
    return "; ".join(filter(None, warnings))


def _listed(names: Sequence[str]) -> str:
    return f"known: {', '.join(names)}"


def _start(
    entry: Hooks, prefix: str, process: ClientProcess, happened: event.Event, began: float
) -> str:
    """Label what the client has started; return what is wrong, '' if nothing is."""
    is_one = process.is_known and not entry.is_shared(process.arguments)
    if not (is_one and happened.session_id):
        return ""
    return client_label.give(process, prefix, happened.session_id, began)


def _end(
    entry: Hooks,
    prefix: str,
    process: ClientProcess,
    happened: event.Event,
    began: float,
    then: Command,
) -> None:
    """Stop what is left of a session, or of the whole client, once that is proved to be over."""
    if happened.reason in entry.keeps:
        return
    watch = Watch(process)
    until = time.monotonic() + PATIENCE
    stops = happened.reason in entry.drops and happened.session_id and process.is_known
    session = f"{prefix}:{happened.session_id}"
    if stops and not watch.has_ended(SETTLING) and (named := scopes_of(session)):
        _call(then, _stop(named, began), process.pid)
    if watch.has_ended(until - time.monotonic()):
        _call(then, ["reconcile", "--owner", str(process.pid)])


def scopes_of(session: str) -> list[str]:
    """Return the units with this session as their own.

    If it is only the label of a scope, other sessions may use its servers too.
    """
    about = About(frozenset((session,)))
    scopes = Reader(mount_point()).snapshot(uid=os.geteuid(), about=about).scopes
    return [scope.unit for scope in scopes if scope.session == session and not scope.elsewhere]


def _stop(units: Sequence[str], began: float) -> list[str]:
    """Return the command that stops scopes of the calling gateway.

    Not what was started to outlive the client, and not what a resumed session has started since.
    """
    return [
        "stop", *units, "--mine", "--lifetime", "gateway",
        "--started-before", f"@{began:.6f}", "--note", "the client has ended the session",
    ]  # fmt: skip


def _call(then: Command, words: list[str], gateway: int = 0) -> None:
    """Run a command as a child and wait for it; gateway is the pid that ``--mine`` stands for."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if gateway:
            os.environ["SCOPEKEEPER_OWNER"] = str(gateway)
        then(words)
    finally:
        os._exit(0)
