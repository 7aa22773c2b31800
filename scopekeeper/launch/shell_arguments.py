"""Reads from a shell's arguments what it is asked to do, as the shells themselves do.

On the hot path of ``scopekeeper-shell``: no imports. Nothing depends on knowing every option of
every shell: an unknown call is started all the same, under the shell's name.
"""

_WITH_VALUE = frozenset(
    ("--rcfile", "--init-file", "--emulate", "--command", "--init-command", "--features",
     "--profile", "--profile-startup", "--debug-output")
)  # fmt: skip
"""Long options of bash, zsh and fish whose value is the next argument."""
_BASH_LONG = frozenset(
    ("norc", "noprofile", "login", "rcfile", "init-file", "noediting", "posix", "restricted",
     "verbose", "debugger")
)  # fmt: skip
"""Long options that bash also accepts with one dash."""
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-@:%,/~")
_KEYWORDS = frozenset(
    ("if", "for", "while", "until", "case", "select", "function", "time", "then", "do", "begin")
)
_PREPARING = ("export", "unset", "cd", "umask", "ulimit", "set")
"""Commands that only prepare for the real command of a line."""
_NAME_MOST = 64


class ShellArguments:
    """The kind of call, as far as the arguments show it."""

    __slots__ = ("command", "interactive", "login", "script")

    def __init__(self, given: str, arguments: list[str]) -> None:
        """Read the arguments; given is the first word, with the ``-`` of a login shell."""
        self.login = given.startswith("-")
        self.interactive = False
        """Whether ``-i`` is given; a terminal on stdin makes a shell interactive too."""
        self.command: str | None = None
        self.script: str | None = None
        at, commanded, from_stdin = 0, False, False
        while at < len(arguments) and len(arguments[at]) > 1 and arguments[at][0] in "-+":
            word = arguments[at]
            at += 1
            if word == "--":
                break
            if word[1:] in _BASH_LONG:
                word = f"-{word}"
            name, equals, value = word.partition("=")
            if word.startswith("--"):
                self.login |= word == "--login"
                self.interactive |= word == "--interactive"
                if name == "--command":
                    self.command = value if equals else "".join(arguments[at : at + 1])
                at += name in _WITH_VALUE and not equals
            elif word[0] == "-":
                self.login |= "l" in word
                self.interactive |= "i" in word
                commanded |= "c" in word
                from_stdin |= "s" in word
            if word[1] != "-" and word[-1] in "oO":  # -o pipefail, -eo pipefail, +O extglob
                at += 1
        rest = arguments[at : at + 1]
        if commanded:
            self.command = rest[0] if rest else ""
        elif rest and rest[0] != "-" and not from_stdin and self.command is None:
            self.script = rest[0]

    @property
    def runs_command(self) -> bool:
        """Whether it ends by itself, after a command or a script."""
        return self.command is not None or self.script is not None

    def name(self, shell: str) -> str:
        """Return the member's name: a plain command's name, otherwise the shell's."""
        if self.script is not None:
            words = [self.script]
        else:
            words = _after_preparation(self.command or "").split(None, 2)[:2]
            if words[:1] == ["exec"]:
                del words[0]
        word = words[0].rstrip(";&|") if words else ""
        name = word.rpartition("/")[2]
        if not _WORD.issuperset(word) or len(name) > _NAME_MOST or name in _KEYWORDS:
            return shell
        return name if name[:1].isalnum() or name[:1] == "_" else shell


def _after_preparation(line: str) -> str:
    """Return a command line without its leading preparing commands."""
    while line.lstrip().partition(" ")[0] in _PREPARING:
        end = min((at for at in map(line.find, (";", "&&", "\n")) if at >= 0), default=-1)
        before = line[:end]
        if end < 0:
            return line  # nothing follows
        if before.count("'") % 2 or before.count('"') % 2:
            return ""  # the separator is inside quotes
        line = line[end:].lstrip(";&\n ")
    return line
