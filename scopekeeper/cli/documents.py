"""The files installed beside the program: man pages and shell completions.

Both are generated from the commands. ``python -m scopekeeper.cli.documents FOLDER`` writes them.
"""

import os
import sys

from click.shell_completion import FishComplete, ZshComplete

from scopekeeper.cli import manual
from scopekeeper.cli.bash import Bash
from scopekeeper.cli.main import COMPLETE, group
from scopekeeper.version import __version__

_NAME = "scopekeeper"


def texts() -> dict[str, str]:
    """Return the text of each file by its path below a ``share`` folder."""
    pages = manual.pages(group, _NAME, __version__)
    return {f"man/man1/{page}": text for page, text in pages.items()} | {
        f"bash-completion/completions/{_NAME}": Bash(group, {}, _NAME, COMPLETE).source(),
        f"zsh/site-functions/_{_NAME}": ZshComplete(group, {}, _NAME, COMPLETE).source(),
        f"fish/vendor_completions.d/{_NAME}.fish":
            FishComplete(group, {}, _NAME, COMPLETE).source(),
    }  # fmt: skip


def write(folder: str) -> None:
    """Write all files below a folder; raises OSError."""
    for name, text in texts().items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    write(sys.argv[1])
