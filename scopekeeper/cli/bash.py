"""Completion in bash, which splits words at colons, and session names contain colons.

click's own script uses bash's split words. This one parses the line itself and returns only the
part of each value after the last split, quoted for bash.
"""

import os
import shlex

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

_BREAKS = ":="
"""The characters of COMP_WORDBREAKS that can be inside a word (bash(1))."""
_UNSAFE = {'"': '$`"\\!', "'": "'"}
"""For each quote, the characters that end it or are not literal inside it."""


class Bash(ShellComplete):
    """click's completion protocol for bash."""

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
        """Return the words before the cursor's word, and the typed part of that word."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)
        return (words[1:-1], words[-1]) if last_word(line) else (words[1:], "")

    def format_completion(self, item: CompletionItem) -> str:
        """Return ``kind,value``."""
        value = completed(last_word(os.environ.get("COMP_LINE", "")), item.value)
        return f"{item.type if value else ''},{value}"


def completed(begun: str, value: str) -> str:
    """Return what bash must put in place of its current word; '' if value cannot be offered.

    begun is the whole word as typed, which may be longer than bash's current word.
    """
    option, equals, typed = begun.partition("=")
    if not (option.startswith("--") and equals):
        typed = begun
    if typed[:1] in _UNSAFE:
        return "" if set(value) & set(_UNSAFE[typed[0]]) else value
    kept = max(typed.rfind(each) for each in _BREAKS) + 1
    return shlex.quote(value.removeprefix(typed[:kept]))


def last_word(line: str) -> str:
    """Return the last word of a line as typed, quotes included; '' after a space."""
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
