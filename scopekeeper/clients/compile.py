"""Compiles tables of clients: clients.toml into ``table``, and a user's for launches.

``python -m scopekeeper.clients.compile`` does the first. The second writes a file in the runtime
directory: its first line is the signature of the sources, each other line a client.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from scopekeeper import regular_files, whole_file
from scopekeeper.clients.format import Row, dumps
from scopekeeper.clients.parse import ClientsError, merge, parse

FOLDER = Path(__file__).parent
BUILT_IN = f"{FOLDER}/clients.toml"
_SIZE_MAX = 64 << 10
_MODULE = '''\
"""``clients.toml``, compiled: see ``compile``. On the hot path of ``run``: no imports."""

DIGEST = "{digest}"
"""Changes with the whole table."""
TABLE = (
    # name, programs, variables of the session, variables beside them,
    #     prefix, lane, owner
{rows}
)  # fmt: skip
VARIABLES = (
{variables}
)  # fmt: skip
"""All variables of sessions."""
'''


def read(sources: list[str]) -> tuple[Row, ...]:
    """Return the table with the files of a user over it; raises ClientsError."""
    return parse(texts_of([BUILT_IN, *sources]))


def _read(path: str) -> bytes:
    """Read a table; that of the package is trusted as its code is, whoever owns it."""
    if path == BUILT_IN:
        with open(path, "rb") as file:
            return file.read()
    return regular_files.read(path, _SIZE_MAX, follow=True)


def texts_of(sources: list[str]) -> list[tuple[str, str]]:
    """Return the path and the text of each file that exists; raises ClientsError."""
    texts = []
    for path in sources:
        try:
            texts.append((path, _read(path).decode("utf-8")))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ClientsError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ClientsError(f"{path}: not UTF-8 (byte {error.start})") from None
    return texts


def refresh(sources: list[str], signature: str, path: str) -> tuple[tuple[Row, ...], str]:
    """Compile a user's files into path; return the table, and the problem with the files."""
    try:
        table = read(sources)
    except ClientsError as error:
        return (), str(error)
    if path:
        text = "\n".join((signature, *map(dumps, table)))
        with contextlib.suppress(OSError):  # the next launch compiles it again
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o755)
            whole_file.replace(path, text.encode("utf-8", "surrogateescape"))
    return table, ""


def module() -> str:
    """Return the text of ``table``."""
    rows = read([])
    digest = hashlib.sha256(repr(merge(texts_of([BUILT_IN]))).encode()).hexdigest()[:8]
    lines = (f"    ({_inner(row[:4])},\n     {_inner(row[4:])})," for row in rows)
    names = dict.fromkeys(name for row in rows for name in row[2])
    variables = "\n".join(f'    b"{name}",' for name in names)
    return _MODULE.format(digest=digest, rows="\n".join(lines), variables=variables)


def _inner(fields: tuple[object, ...]) -> str:
    """Return the text of a tuple in double quotes, without its parentheses."""
    return repr(fields)[1:-1].replace("'", '"')


if __name__ == "__main__":
    (FOLDER / "table.py").write_text(module(), encoding="utf-8")
