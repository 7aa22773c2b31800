"""The modules of the calls that need no parser (``scopekeeper.cli.plain_calls``), in two files.

The second has what only ``stop`` needs. What other commands share with them is read from the first
too. ``run`` and ``hook`` read neither.
"""

MODULES = (
    "scopekeeper", "scopekeeper.main", "scopekeeper.launch", "scopekeeper.launch.signals",
    "scopekeeper.cli", "scopekeeper.cli.plain_calls", "scopekeeper.version",
    "scopekeeper.cli.commands", "scopekeeper.cli.unknown_command", "scopekeeper.safe_text",
    "scopekeeper.data", "scopekeeper.errors", "scopekeeper.quantities",
    "scopekeeper.cli.colour", "scopekeeper.cli.outcome", "scopekeeper.cli.output",
    "scopekeeper.kernel", "scopekeeper.kernel.cgroupfs", "scopekeeper.kernel.proc",
    "scopekeeper.scope", "scopekeeper.scope.names", "scopekeeper.scope.placement",
    "scopekeeper.scope.records", "scopekeeper.systemd", "scopekeeper.systemd.units",
    # ls
    "scopekeeper.cli.cells", "scopekeeper.cli.empty", "scopekeeper.cli.ended_runs",
    "scopekeeper.cli.ends", "scopekeeper.cli.list_view", "scopekeeper.cli.ls_beneath",
    "scopekeeper.cli.ages", "scopekeeper.cli.ls_list", "scopekeeper.cli.ls_origins",
    "scopekeeper.cli.ls_rows", "scopekeeper.cli.ls_titles", "scopekeeper.cli.ls_unknown",
    "scopekeeper.cli.owner_title", "scopekeeper.cli.show", "scopekeeper.cli.table",
    "scopekeeper.cli.users",
    "scopekeeper.kernel.peers", "scopekeeper.kernel.unix_sockets", "scopekeeper.kernel.usage",
    "scopekeeper.scope.activity", "scopekeeper.scope.launched", "scopekeeper.scope.model",
    "scopekeeper.scope.record_parser", "scopekeeper.scope.resolve", "scopekeeper.scope.search",
    "scopekeeper.scope.selection", "scopekeeper.scope.snapshot",
    # exec -d
    "scopekeeper.cli.exec_run",
    "scopekeeper.clients", "scopekeeper.clients.identity", "scopekeeper.clients.table",
    "scopekeeper.clients.variables",
    "scopekeeper.exec", "scopekeeper.exec.client", "scopekeeper.exec.messages",
    "scopekeeper.exec.protocol", "scopekeeper.exec.reach", "scopekeeper.exec.run",
    "scopekeeper.exec.silence", "scopekeeper.exec.start",
    "scopekeeper.keeper_address", "scopekeeper.launch.arguments", "scopekeeper.launch.program",
    "scopekeeper.launch.request", "scopekeeper.launch.run",
    "scopekeeper.policy", "scopekeeper.policy.cache_format", "scopekeeper.policy.cached",
    "scopekeeper.policy.files", "scopekeeper.regular_files", "scopekeeper.scope.choose_placement",
    "scopekeeper.scope.client", "scopekeeper.scope.owner", "scopekeeper.users",
    "scopekeeper.whole_file", "scopekeeper.systemd.lingering",
    # its child, which makes the scope
    "scopekeeper.history", "scopekeeper.history.launch_ledger", "scopekeeper.launch.create_unit",
    "scopekeeper.launch.join", "scopekeeper.launch.member", "scopekeeper.launch.start_keeper",
    "scopekeeper.short_names", "scopekeeper.systemd.dbus_wire", "scopekeeper.systemd.manager",
)  # fmt: skip
OF_STOP = (
    "scopekeeper.cli.interrupted", "scopekeeper.cli.outliving", "scopekeeper.cli.owned",
    "scopekeeper.cli.select_options", "scopekeeper.cli.similar", "scopekeeper.cli.stop_cause",
    "scopekeeper.cli.stop_report", "scopekeeper.cli.stop_run", "scopekeeper.cli.unseen",
    "scopekeeper.history.bounds", "scopekeeper.history.end",
    "scopekeeper.history.journal",
    "scopekeeper.history.recording", "scopekeeper.history.rows", "scopekeeper.history.scratch",
    "scopekeeper.history.store", "scopekeeper.history.totals",
    "scopekeeper.kernel.children", "scopekeeper.kernel.emptiness",
    "scopekeeper.kernel.exit_status", "scopekeeper.kernel.job_control",
    "scopekeeper.kernel.mounts", "scopekeeper.kernel.oomd", "scopekeeper.kernel.open_files",
    "scopekeeper.kernel.terminals",
    "scopekeeper.lifecycle", "scopekeeper.lifecycle.contradiction",
    "scopekeeper.lifecycle.escaped", "scopekeeper.lifecycle.held_target",
    "scopekeeper.lifecycle.label_lines", "scopekeeper.lifecycle.leavers",
    "scopekeeper.lifecycle.member_lines", "scopekeeper.lifecycle.observe",
    "scopekeeper.lifecycle.oom", "scopekeeper.lifecycle.remove", "scopekeeper.lifecycle.stop",
    "scopekeeper.lifecycle.stop_counts", "scopekeeper.lifecycle.stop_interrupted",
    "scopekeeper.lifecycle.stop_launched", "scopekeeper.lifecycle.stop_mark",
    "scopekeeper.lifecycle.stop_target", "scopekeeper.lifecycle.stop_witness",
    "scopekeeper.lifecycle.time_limit", "scopekeeper.lifecycle.unseen_ends",
    "scopekeeper.scope.marker", "scopekeeper.scope.nearby", "scopekeeper.scope.outside",
    "scopekeeper.scope.reason",
    "scopekeeper.state", "scopekeeper.systemd.journal", "scopekeeper.systemd.logins",
    "scopekeeper.systemd.service_end",
)  # fmt: skip

LOADER = """\
import marshal, posix, sys

sys.path.append(FOLDER)
if sys.argv[1:2] == ["stop"]:
    try:
        file = posix.open(STOP, posix.O_CLOEXEC)
    except OSError:
        pass
    else:
        MODULES |= marshal.loads(posix.read(file, MOST))
        posix.close(file)

class Compiled:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in MODULES:
            return None
        file, is_package, _ = MODULES[name]
        file = FOLDER + "/" + file
        spec = type(sys.__spec__)(name, Compiled, origin=file, is_package=is_package)
        if is_package:
            spec.submodule_search_locations.append(file[: -len("/__init__.py")])
        return spec

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        module.__file__ = module.__spec__.origin
        exec(marshal.loads(MODULES[module.__name__][2]), module.__dict__)

sys.meta_path.insert(0, Compiled)
from scopekeeper.main import main

try:
    main()
except SystemExit as end:
    if "click" in sys.modules or not isinstance(end.code, int):
        raise
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    posix._exit(end.code)
"""
"""Finds the modules by the import system's own interface. FOLDER is where the package is,
MODULES has by name the file in there, whether it is a package, the code, and STOP is the path of a
file with more of them. What its path has not is the standard library's: so FOLDER comes last, and
is not listed for each of its modules.

A call without click has no threads and nothing to clean up: it ends at once, since taking the
interpreter apart takes a tenth of it."""
