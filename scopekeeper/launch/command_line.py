"""Reads a command line as Claude Code hands it to ``scopekeeper-prefix``.

On its hot path: no imports. Nothing is ever changed in a line but for ``exec`` before it, and only
if the line is one plain command: every doubt means that the shell reads the line as it is.
"""

from scopekeeper.launch.shell_arguments import ShellArguments

_OPERATORS = frozenset(";&|()\n`")
"""Outside of quotes, they make more than one command of a line."""
_NO_PROGRAMS = frozenset(
    ("if", "for", "while", "until", "case", "select", "function", "time", "coproc", "then", "do",
     "else", "elif", "done", "fi", "esac", ".", ":", "alias", "bg", "bind", "break", "builtin",
     "caller", "cd",
     "command", "compgen", "complete", "continue", "declare", "dirs", "disown", "echo", "enable",
     "eval", "exec", "exit", "export", "false", "fc", "fg", "getopts", "hash", "help", "history",
     "jobs", "kill", "let", "local", "logout", "popd", "printf", "pushd", "pwd", "read",
     "readonly", "return", "set", "shift", "shopt", "source", "suspend", "test", "times", "trap",
     "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "wait")
)  # fmt: skip
"""Words that a shell does not look for in PATH."""
_PATH = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-@:%,~ "
)  # fmt: skip
_NO_START = ("", "-", "+", *"0123456789")
"""A digit may belong to a redirection."""
_LONG = 100_000
"""The kernel takes up to 131,071 bytes in one argument (execve(2))."""
_NAME_MOST = 64
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-@%,")
_OWN = "scopekeeper"
_LAUNCHING = ("run", "exec")


def words_of(line: str, most: int) -> list[str] | None:
    """Return the first words of a line without their quotes; None if it is no plain command.

    A ``$`` stays as it is written.
    """
    words: list[str] = []
    word, begun, quote = "", False, ""
    at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if quote == "'" and char != "'":
            word += char
        elif char == quote:
            quote = ""
        elif char == "\\" and at < len(line) and (not quote or line[at] in '$`"\\\n'):
            word, begun = word + line[at].replace("\n", ""), True
            at += 1
        elif char == "`" or (not quote and char in _OPERATORS):
            return None
        elif not quote and char in "'\"":
            quote, begun = char, True
        elif not quote and char in " \t":
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + char, True
    if quote:
        return None  # the shell reports it
    if begun:
        words.append(word)
    return words[:most]


def executed(line: str) -> str:
    """Return the line for a shell's ``-c`` that leaves no shell behind, if that changes nothing."""
    first = (words_of(line, 1) or [""])[0]
    is_program = _PATH.issuperset(first) and first not in _NO_PROGRAMS
    if not is_program or first[:1] in _NO_START or len(line) > _LONG:
        return line
    return f"exec {line}"


def is_contained(line: str) -> bool:
    """Return whether a line is a launch by scopekeeper, as `wrap` writes it."""
    words = words_of(line, 2) or []
    return len(words) > 1 and words[0].rpartition("/")[2] == _OWN and words[1] in _LAUNCHING


def program_name(line: str, default: str) -> str:
    """Return the file name of a line's program; default if it has none that is plain."""
    words = words_of(line, 1)
    name = words[0].rpartition("/")[2] if words else ""
    is_plain = _WORD.issuperset(name) and (name[:1].isalnum() or name[:1] == "_")
    return name if is_plain and len(name) <= _NAME_MOST else default


def of_bash_tool(line: str) -> bool:
    """Return whether a line is one that the Bash tool makes: it reads a snapshot and evaluates."""
    return line.startswith("source ") or (" eval " in line and "pwd -P >" in line)


def tool_command(line: str) -> str:
    """Return the command that such a line evaluates; the line itself if there is none."""
    _, found, rest = line.partition(" eval ")
    rest = rest.lstrip()
    if not found or not rest:
        return line
    quote, word, at = "", "", 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\" and quote != "'" and at < len(rest):
            word += rest[at]
            at += 1
        elif not quote and char in " \t\n":
            break
        else:
            word += char
    return word


def command_name(line: str, shell: str) -> str:
    """Return the name of a member for a command of the Bash tool."""
    return ShellArguments("sh", ["-c", tool_command(line)]).name(shell)
