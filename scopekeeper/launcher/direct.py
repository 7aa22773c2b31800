"""Writes the fast launchers: ``python -m scopekeeper.launcher.direct [PATH]``.

pip's script starts the interpreter with ``site`` (pip drops interpreter options from a script's
first line) and finds every module of the hot path one by one: 3 ms of 9. This program rewrites the
installed script, or writes PATH, to run ``python -I -S`` and to read the compiled hot path from one
file, and the modules for making a scope from another. Run it again to update both; installing the
package again restores pip's script.

``scopekeeper-shell`` and ``scopekeeper-prefix`` are written beside it, on x86-64 as ELF programs
(``scopekeeper.launcher.elf``), which a login shell has to be.
"""

import ast
import importlib
import marshal
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from scopekeeper import whole_file
from scopekeeper.launch import real_shell, shell_prefix
from scopekeeper.launcher import calls, elf

# in the order in which they import each other
_JOINING = (
    "scopekeeper", "scopekeeper.launch", "scopekeeper.launch.signals",
    "scopekeeper.launch.arguments", "scopekeeper.launch.program", "scopekeeper.launch.run",
    "scopekeeper.kernel", "scopekeeper.kernel.proc", "scopekeeper.users",
    "scopekeeper.systemd", "scopekeeper.systemd.units",
    "scopekeeper.scope", "scopekeeper.scope.names", "scopekeeper.scope.records",
    "scopekeeper.scope.placement", "scopekeeper.scope.choose_placement", "scopekeeper.scope.client",
    "scopekeeper.scope.owner", "scopekeeper.clients", "scopekeeper.clients.table",
    "scopekeeper.clients.variables",
    "scopekeeper.launch.request", "scopekeeper.history", "scopekeeper.history.launch_ledger",
    "scopekeeper.launch.member", "scopekeeper.launch.join",
    "scopekeeper.main",
)  # fmt: skip
_LATER = ("scopekeeper.clients.identity", "scopekeeper.history.session_label")
"""In the same file, but loaded only by the launches that need them."""
_HOOK = ("scopekeeper.hook", "scopekeeper.hook.front")
"""In the same file; a hook loads them, and of the modules above only ``_BELOW_HOOK``."""
_BELOW_HOOK = ("scopekeeper", "scopekeeper.kernel", "scopekeeper.kernel.proc", "scopekeeper.main")
_SHELL = (
    "scopekeeper.launch.shell_arguments", "scopekeeper.launch.real_shell",
    "scopekeeper.launch.shell",
)  # fmt: skip
_PREFIX = (*_SHELL, "scopekeeper.launch.command_line", "scopekeeper.launch.shell_prefix")
_MAKING = (
    "scopekeeper.errors", "scopekeeper.short_names", "scopekeeper.systemd.dbus_wire",
    "scopekeeper.systemd.manager", "scopekeeper.launch.start_keeper",
    "scopekeeper.launch.create_unit",
)  # fmt: skip

_SCRIPT = """\
#!{python} -IS
import _signal, marshal, posix, sys
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
name, most = "/calls.", {most_of_calls}
if sys.argv[1:2] in (["run"], ["hook"]):
    name, most = "/hot.", {most}
try:
    file = posix.open({compiled!r} + name + sys.implementation.cache_tag, posix.O_CLOEXEC)
except OSError:
    sys.path.insert(0, {folder!r})
    from scopekeeper.main import main
    main()
else:
    exec(*marshal.loads(posix.read(file, most)))
"""
"""The name of the compiled file has the version of Python, which alone can read it."""

_PROGRAM = """\
import _signal, marshal, posix, sys
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
try:
    hot = posix.open({hot!a} + sys.implementation.cache_tag, posix.O_CLOEXEC)
    hot = marshal.loads(posix.read(hot, {most}))
except Exception:
    hot = {slow!a}, {{}}
try:
    exec(*hot)
except Exception as error:
    exec({broken!a})
"""
_SLOW = """\
import sys
sys.path.insert(0, {folder!a})
from {module} import main
main({file!a}, sys.argv[sys.argv[0] == "-c":])
"""
_SHELL_BROKEN = """\
words = sys.argv[sys.argv[0] == "-c":]
posix.write(2, f"scopekeeper: the installation is broken: {error!r}\\n".encode())
if b"SCOPEKEEPER_SESSION" in posix.environ:
    posix._exit(125)
dash = "-" * (words[0][:1] == "-")
for shell in ("bash", "sh") if words[0][-4:] == "bash" else ("sh",):
    try:
        posix.execve("/bin/" + shell, [dash + shell, *words[1:]], posix.environ)
    except OSError:
        pass
"""
_PREFIX_BROKEN = """\
words = sys.argv[sys.argv[0] == "-c":]
posix.write(2, f"scopekeeper: the installation is broken: {error!r}\\n".encode())
for shell in "/bin/bash", "/bin/sh":
    try:
        posix.execve(shell, [shell, "-c", *words[1:2]], posix.environ)
    except OSError:
        pass
posix._exit(126)
"""
"""What the programs run that become a shell. However broken the installation is, a login gets a
shell, and a client its command. The code for errors is a string: that takes less time to
compile."""

_LOADER = """\
import sys

sys.path.insert(0, FOLDER)
IS_HOOK = sys.argv[1:2] == ["hook"]
if PROGRAM or IS_HOOK or sys.argv[1:2] == ["run"]:
    import marshal, posix

    def load(name, file, is_package, code):
        sys.modules[name] = module = type(sys)(name)
        module.__file__ = FOLDER + "/" + file
        if is_package:
            module.__path__ = [module.__file__[: -len("/__init__.py")]]
        exec(code, module.__dict__)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)

    def load_more():
        making = posix.open(MAKING, posix.O_CLOEXEC)
        for piece in marshal.loads(posix.read(making, MOST)):
            if piece[0] not in sys.modules:  # else two classes of one name: no except catches both
                load(*piece)
        posix.close(making)

    def load_later(name):
        if name not in sys.modules:
            load(*marshal.loads(LATER[name]))

    if IS_HOOK and not PROGRAM:
        for piece in JOINING:
            if piece[0] in BELOW_HOOK:
                load(*piece)
        for name in HOOK:
            load_later(name)
    else:
        for piece in JOINING:
            load(*piece)
        sys.modules["scopekeeper.launch"].load_more = load_more
        sys.modules["scopekeeper.launch"].load_later = load_later
if PROGRAM:
    sys.modules[MODULE].main(PROGRAM, sys.argv[sys.argv[0] == "-c":])
from scopekeeper.main import main

main()
"""
"""Runs first; the content of ``compile_hot`` is defined."""


@dataclass(frozen=True, slots=True)
class _Shell:
    """A program beside ``scopekeeper`` that contains itself and becomes a shell."""

    name: str
    compiled: str
    """The name of its compiled file."""
    modules: tuple[str, ...]
    """The modules of that file; the last one has its ``main``."""
    broken: str
    """The code that runs instead if the installation is broken."""
    takes_line: bool = False
    """Whether its argument is a command line."""


SHELLS = (
    _Shell(real_shell.NAME, "shell", _SHELL, _SHELL_BROKEN),
    _Shell(shell_prefix.NAME, "prefix", _PREFIX, _PREFIX_BROKEN, takes_line=True),
)
COMPILED = ("hot", "make", "calls", "stop", *(each.compiled for each in SHELLS))
"""The names of all compiled files."""

_SHEBANG_MAX = 127
"""Bytes of a script's first line that Linux reads before 5.1."""


_FOLDER = Path(__file__).parent
_MOST = 256 << 10
"""Bytes that the launcher reads at once: twice what there is to read."""
_MOST_OF_CALLS = 1 << 20


def _folder() -> Path:
    """Return the folder of the package, which ``sys.path`` has."""
    return Path(__file__).resolve().parents[2]


def _file(name: str) -> str:
    """Return the path of a compiled file.

    Every ``run`` reads ``hot``, a program that becomes a shell its own, and a launch that makes a
    scope ``make``.
    """
    return f"{_FOLDER}/{name}.{sys.implementation.cache_tag}"


def compile_hot(*more: str, program: str = "") -> bytes:
    """Compile the loader, the modules of the hot path, and more modules, into one file.

    program is the path of the program that the file is for, if that becomes a shell.
    """
    loader = compile(_LOADER, "scopekeeper", "exec", dont_inherit=True)
    joining = [_piece(name) for name in (*_JOINING, *more)]
    later = {name: marshal.dumps(_piece(name)) for name in (*_LATER, *_HOOK)}
    content = {
        "FOLDER": str(_folder()), "JOINING": joining, "LATER": later, "MAKING": _file("make"),
        "MODULE": more[-1] if more else "", "MOST": _MOST, "PROGRAM": program,
        "HOOK": _HOOK, "BELOW_HOOK": _BELOW_HOOK,
    }  # fmt: skip
    whole = marshal.dumps((loader, content))
    if len(whole) > _MOST:
        raise OverflowError(f"the hot path has {len(whole)} bytes; the launcher reads {_MOST}")
    return whole


def compile_calls() -> bytes:
    """Compile the modules of the calls that need no parser into one file."""
    loader = compile(calls.LOADER, "scopekeeper", "exec", dont_inherit=True)
    content = {
        "FOLDER": str(_folder()), "MODULES": _by_name(calls.MODULES),
        "STOP": _file("stop"), "MOST": _MOST_OF_CALLS,
    }  # fmt: skip
    return _bounded(marshal.dumps((loader, content)))


def compile_stop() -> bytes:
    """Compile the modules that only ``stop`` adds to them into one file."""
    return _bounded(marshal.dumps(_by_name(calls.OF_STOP)))


def _by_name(modules: Iterable[str]) -> dict[str, tuple[str, bool, bytes]]:
    pieces = map(_piece, modules)
    return {name: (file, package, marshal.dumps(code)) for name, file, package, code in pieces}


def _bounded(whole: bytes) -> bytes:
    if len(whole) > _MOST_OF_CALLS:
        raise OverflowError(f"the plain calls have {len(whole)} bytes; {_MOST_OF_CALLS} are read")
    return whole


def _piece(name: str) -> tuple[str, str, bool, CodeType]:
    """Return a module's name, its file in the folder of the package, whether it is one, its code.

    The code names its file without the folder: how long that is must not change what is read.
    """
    module = importlib.import_module(name)
    source = Path(str(module.__file__))
    file = str(source.resolve().relative_to(_folder()))
    tree = _Slim().visit(ast.parse(source.read_bytes()))
    code = compile(tree, file, "exec", dont_inherit=True, optimize=2)
    return name, file, hasattr(module, "__path__"), code


class _Slim(ast.NodeTransformer):
    """Removes annotations, and what only type checkers see: nothing reads them at run time."""

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        is_checked = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return (node.orelse or ast.copy_location(ast.Pass(), node)) if is_checked else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        kept: list[ast.stmt] = []
        for each in node.body:
            # the annotations of a data class are its fields
            is_field = bool(node.decorator_list) and isinstance(each, ast.AnnAssign)
            visited = each if is_field else self.visit(each)
            kept += visited if isinstance(visited, list) else [visited]
        node.body = kept
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            argument.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        assignment = ast.Assign([node.target], node.value)
        return ast.fix_missing_locations(ast.copy_location(assignment, node))


@dataclass(frozen=True, slots=True)
class Installation:
    """Paths of the interpreter, the folder of the package, and the folder of compiled files."""

    python: str
    folder: str
    compiled: str


def this() -> Installation:
    """Return the installation of this interpreter and this copy of the package."""
    return Installation(sys.executable, str(_folder()), str(_FOLDER))


def script(where: Installation) -> bytes:
    """Return the text of the launcher."""
    return _SCRIPT.format(
        python=where.python, folder=where.folder, compiled=where.compiled, most=_MOST,
        most_of_calls=_MOST_OF_CALLS,
    ).encode()  # fmt: skip


def shell(program: _Shell, target: Path, where: Installation) -> bytes:
    """Return the content of one of SHELLS at target: an ELF program, else a script."""
    slow = _SLOW.format(folder=where.folder, file=str(target), module=program.modules[-1])
    text = _PROGRAM.format(
        hot=f"{where.compiled}/{program.compiled}.", most=_MOST, broken=program.broken, slow=slow
    )
    if platform.machine() == elf.MACHINE and sys.maxsize > 2**32:
        return elf.program(os.fsencode(where.python), text, takes_line=program.takes_line)
    return f"#!{where.python} -IS\n{text}".encode()


def write_compiled(folder: Path) -> None:
    """Compile the launchers' files for this interpreter; folder has the programs.

    Raises OSError.
    """
    contents = {
        "make": marshal.dumps([_piece(name) for name in _MAKING]),
        "hot": compile_hot(),
        "calls": compile_calls(),
        "stop": compile_stop(),
    }
    for each in SHELLS:
        contents[each.compiled] = compile_hot(*each.modules, program=str(folder / each.name))
    for name, content in contents.items():
        whole_file.replace(_file(name), content, mode=0o644)


def is_direct(path: Path) -> bool:
    """Return whether a launcher is a fast one; raises OSError."""
    with path.open("rb") as file:
        return file.readline().endswith(b" -IS\n")


def write(target: Path) -> list[Path]:
    """Write the launcher and the programs beside it; return all paths.

    Raises OSError, and ValueError if a script's first line cannot name this interpreter.
    """
    if " " in sys.executable or len(sys.executable) + len("#! -IS") > _SHEBANG_MAX:
        raise ValueError(f"{sys.executable} cannot stand in a script's first line")
    folder = target.parent.absolute()
    write_compiled(folder)
    whole_file.replace(target, script(this()), mode=0o755)
    for each in SHELLS:
        whole_file.replace(folder / each.name, shell(each, folder / each.name, this()), mode=0o755)
    return [target, *(folder / each.name for each in SHELLS)]


def main() -> int:
    """Write the launchers to the given path and beside it, else over the installed scripts."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(sys.executable).parent / "scopekeeper")
    try:
        written = write(target)
    except ValueError as error:
        print(f"scopekeeper: {error}; the script that pip wrote stays", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"scopekeeper: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
