"""Writes the fast launcher: ``python -m scopekeeper.launch.direct [PATH]``.

What pip installs starts the interpreter with ``site`` (pip drops interpreter options from a
script's first line) and finds every module of the hot path one by one: 3 ms of 9. This rewrites
the installed script, or writes PATH, so that it runs ``python -I -S`` and reads the compiled hot
path from one file beside the package's other compiled files. Running it again brings both up to
date; installing the package again puts pip's script back.
"""

import importlib
import marshal
import os
import sys
from pathlib import Path

# in the order in which they import each other
_HOT = (
    "scopekeeper", "scopekeeper.launch", "scopekeeper.names", "scopekeeper.records",
    "scopekeeper.launch.place", "scopekeeper.launch.request", "scopekeeper.launch.member",
    "scopekeeper.launch.scope",
)  # fmt: skip

_SCRIPT = """\
#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
if sys.argv[1:2] == ["run"]:
    import _signal
    if _signal.getsignal(2) is _signal.default_int_handler:
        _signal.signal(2, _signal.SIG_DFL)
    try:
        with open({hot!r}, "rb", 0) as hot:
            code = hot.read()
    except OSError:
        code = b""
    if code:
        import marshal
        for name, file, path, code in marshal.loads(code):
            sys.modules[name] = module = type(sys)(name)
            module.__file__ = file
            if path:
                module.__path__ = path
            exec(code, module.__dict__)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
from scopekeeper.launch import main
main()
"""

_SHEBANG_MAX = 127
"""Bytes of a script's first line that Linux reads before 5.1."""


def hot_path() -> Path:
    """Return where the compiled hot path of this interpreter's version is kept."""
    return Path(__file__).parent / "__pycache__" / f"hot.{sys.implementation.cache_tag}"


def compile_hot() -> bytes:
    """Compile the modules of the hot path, without their docstrings, into one piece."""
    pieces = []
    for name in _HOT:
        module = importlib.import_module(name)
        file = str(module.__file__)
        code = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True, optimize=2)
        pieces.append((name, file, list(getattr(module, "__path__", ())), code))
    return marshal.dumps(pieces)


def script() -> str:
    """Return the launcher for this interpreter and this copy of the package."""
    folder = str(Path(__file__).resolve().parents[2])
    return _SCRIPT.format(python=sys.executable, folder=folder, hot=str(hot_path()))


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that whoever reads it sees the old one or the new one, whole."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.replace(path)


def main() -> int:
    """Write the launcher to the path named, else over the installed script."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(sys.executable).parent / "scopekeeper")
    if " " in sys.executable or len(sys.executable) + len("#! -IS") > _SHEBANG_MAX:
        print(
            f"scopekeeper: {sys.executable} cannot stand in a script's first line; "
            "the script that pip wrote stays",
            file=sys.stderr,
        )
        return 1
    try:
        replace(hot_path(), compile_hot(), 0o644)
        replace(target, script().encode(), 0o755)
    except OSError as error:
        print(f"scopekeeper: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
