"""The titles of Claude Code: in ``~/.claude/projects/FOLDER/ID.jsonl``.

FOLDER is the project's path with ``-`` for all but ASCII letters and digits, cut if it is long. A
name that the user gives, or the client makes, is a line of its own; the client repeats it near the
end of the file as that grows.
"""

import re
from collections.abc import Iterator

from scopekeeper.clients.session_files import Files, Line, Named, Store, listed, texts_of

_NOT_TYPED = ("isMeta", "isSidechain", "isCompactSummary")
"""Keys of lines that the user has not typed."""
_MARKUP = ("<", "[Request interrupted")
"""How texts begin that the client writes into a prompt."""


def _paths(folder: str, session_id: str, directories: list[str]) -> Iterator[str]:
    likely = dict.fromkeys(re.sub("[^a-zA-Z0-9]", "-", each) for each in directories)
    for name in likely:
        yield f"{folder}/projects/{name}/{session_id}.jsonl"
    for name in listed(f"{folder}/projects"):
        if name not in likely:
            yield f"{folder}/projects/{name}/{session_id}.jsonl"


def _prompt(line: Line) -> str:
    message = line.get("message")
    if line.get("type") != "user" or not isinstance(message, dict):
        return ""
    if any(line.get(key) for key in _NOT_TYPED):
        return ""
    texts = texts_of(message.get("content"), "text")
    return next((each for each in texts if not each.lstrip().startswith(_MARKUP)), "")


STORE = Store(
    variable="CLAUDE_CONFIG_DIR",
    folder=".claude",
    files=(
        Files(
            _paths,
            named=(
                Named("customTitle", (("type", "custom-title"),)),
                Named("aiTitle", (("type", "ai-title"),)),
                Named("summary", (("type", "summary"),)),
            ),
            prompt_mark="user",
            prompt=_prompt,
        ),
    ),
)
