"""Completion in bash, which splits what is typed at colons, as session names have them.

click's own script takes bash's words as they are. This one takes the line, and gives back of each
value what comes after the last place where bash splits, quoted as bash reads it.
"""

import os
import shlex

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

_BREAKS = ":="
"""Of COMP_WORDBREAKS, what can be inside of a word (bash(1))."""
_UNSAFE = {'"': '$`"\\!', "'": "'"}
"""What ends a quote, or is not literal in it."""


class Bash(ShellComplete):
    """The protocol between bash and click."""

    name = "bash"
    source_template = """\
# Completion of %(prog_name)s for bash.
%(complete_func)s()
{
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2> /dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and that as far as it is typed."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)
        return (words[1:-1], words[-1]) if last_word(line) else (words[1:], "")

    def format_completion(self, item: CompletionItem) -> str:
        """Return a kind and a value, with a comma between them."""
        value = answer(last_word(os.environ.get("COMP_LINE", "")), item.value)
        return f"{item.type if value else ''},{value}"


def answer(begun: str, value: str) -> str:
    """Return what bash has to put in the place of what it takes for the word; '' for nothing.

    begun is the word as it stands on the line.
    """
    option, equals, typed = begun.partition("=")
    if not (option.startswith("--") and equals):
        typed = begun
    if typed[:1] in _UNSAFE:
        return "" if set(value) & set(_UNSAFE[typed[0]]) else value
    kept = max(typed.rfind(each) for each in _BREAKS) + 1
    return shlex.quote(value.removeprefix(typed[:kept]))


def last_word(line: str) -> str:
    """Return the word at the end of a line, as it stands there; '' after a space."""
    begin, quote, at = 0, "", 0
    while at < len(line):
        each = line[at]
        if each == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if each == quote else quote
        elif each in "\"'":
            quote = each
        elif each.isspace():
            begin = at + 1
        at += 1
    return line[begin:]
