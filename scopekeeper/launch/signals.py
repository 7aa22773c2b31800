"""Restores the signals that Python changes at its start."""

import posix


def die_by_interrupt() -> None:
    """Let SIGINT kill this process, as it would kill the command, instead of raising.

    SIGINT is blocked meanwhile: one that arrives now is neither lost nor half handled.
    """
    import _signal  # type: ignore[import-not-found]  # built in

    try:
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    except KeyboardInterrupt:
        die()


def unwind_by_interrupt() -> None:
    """Let SIGINT raise KeyboardInterrupt again, for work that cleans up when interrupted."""
    import _signal

    if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def die() -> None:
    """Die by SIGINT: a shell that sees that ends its script too."""
    import _signal

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    posix.kill(posix.getpid(), _signal.SIGINT)


_PASS_ON = frozenset(
    ("systemd", "sh", "dash", "bash", "zsh", "ksh", "mksh", "fish", "busybox", "timeout", "xargs",
     "make", "tini", "s6-supervise", "runsv", "cron", "crond", "su", "sudo", "runuser")
)  # fmt: skip
"""Programs whose children inherit ignored signals. Language runtimes reset them."""


def restore(*, pipe_ignored: bool) -> None:
    """Restore the two signals that Python ignores from its start."""
    import _signal

    if not pipe_ignored:
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)


def pipe_was_ignored() -> bool:
    """Return whether SIGPIPE was ignored before Python started.

    Python hides that, so this infers it. A parent that does not ignore SIGPIPE cannot have passed
    it on. Of those that do, shells pass it on; Python, Node and Rust reset it for their children.
    systemd knows it for its services.
    """
    if not _parent_ignores_pipe():
        return False
    from scopekeeper.systemd.units import is_main_process

    if is_main_process():
        from scopekeeper.scope.placement_options import ignores_pipe

        return ignores_pipe()
    return True


def _parent_ignores_pipe() -> bool:
    from scopekeeper.kernel.proc import comm, read

    parent = posix.getppid()
    # the name decides for most parents, and is read in a fourth of the time
    if comm(parent).strip("()") not in _PASS_ON:
        return False
    try:
        status = read(f"/proc/{parent}/status")
        ignored = int(status[status.index("SigIgn:") + 7 :].split("\n", 1)[0], 16)
    except (OSError, ValueError):
        return False
    return bool(ignored >> 12 & 1)  # bit 12: signal 13, SIGPIPE
