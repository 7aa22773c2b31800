"""Reads the arguments of ``run``. On the hot path: no imports.

The click command handles, and explains, whatever this parser does not understand: also an option
that is given twice and takes one value.
"""

_VALUED = {
    "-s": "session", "-l": "lane", "-n": "name",
    "--session": "session", "--lane": "lane", "--name": "name",
    "--run": "run", "--session-id": "session_id", "--kind": "kind", "--lifetime": "lifetime",
    "--owner": "owner", "--ttl": "ttl", "--grace": "grace", "--memory-max": "memory_max",
    "--memory-high": "memory_high", "--memory-swap-max": "memory_swap_max",
    "--tasks-max": "tasks_max", "--cpu-weight": "cpu_weight",
    "--member-memory-max": "member_memory_max",
    "--member-memory-swap-max": "member_memory_swap_max", "--member-tasks-max": "member_tasks_max",
    "--placement": "placement", "--stderr": "stderr",
    "--if-unavailable": "if_unavailable",
}  # fmt: skip
FLAGS = {
    "--replace": "replace", "--own-scope": "own_scope", "--no-bus": "no_bus",
    "--real-shell": "real_shell", "--no-container": "no_container", "--scratch": "scratch",
}  # fmt: skip
REPEATED = {"--own": "own", "--require": "require"}
"""Options that may be repeated: their values are joined by NUL."""


def parse(
    arguments: list[str],
    also_flags: dict[str, str] = {},  # noqa: B006
) -> tuple[dict[str, str], list[str]] | None:
    """Split the arguments of ``run`` into options and the command; None if in doubt.

    also_flags has the flags of another command beside them, as ``FLAGS`` has those of ``run``.
    """
    options: dict[str, str] = {}
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            at += 1
            break
        if not argument.startswith("-"):
            break
        name, equals, value = argument.partition("=")
        if argument in FLAGS:
            options[FLAGS[argument]] = "1"
        elif argument in also_flags:
            options[also_flags[argument]] = "1"
        elif equals and name[:2] == "--" and name in _VALUED and _VALUED[name] not in options:
            options[_VALUED[name]] = value
        elif argument in _VALUED and at + 1 < len(arguments) and _VALUED[argument] not in options:
            at += 1
            options[_VALUED[argument]] = arguments[at]
        elif name in REPEATED and (equals or at + 1 < len(arguments)):
            if not equals:
                at += 1
                value = arguments[at]
            key = REPEATED[name]
            options[key] = f"{options[key]}\0{value}" if key in options else value
        else:
            return None
        at += 1
    return (options, arguments[at:]) if at < len(arguments) else None
