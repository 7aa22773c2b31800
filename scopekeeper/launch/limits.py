"""Limits that are written to cgroupfs: of a member's leaf, and of a scope without a manager."""

import errno
import time

from scopekeeper.kernel.proc import exists, read, write

_FILES = {
    "memory_max": ("memory", "memory.max"),
    "memory_high": ("memory", "memory.high"),
    "tasks_max": ("pids", "pids.max"),
    "cpu_weight": ("cpu", "cpu.weight"),
    "member_memory_max": ("memory", "memory.max"),
    "member_tasks_max": ("pids", "pids.max"),
}


def limit_folder(base: str, directory: str, limits: dict[str, int], warnings: list[str]) -> None:
    """Limit a scope that no manager made; base is the folder that it was made in."""
    for option, value in limits.items():
        controller, file = _FILES[option]
        if _enable(base, controller):
            write(f"{directory}/{file}", "max" if value < 0 else str(value))
    warn_unlimited(directory, limits, warnings)


def limit_member(directory: str, leaf: str, limits: dict[str, int], warnings: list[str]) -> None:
    """Limit one member of the scope at directory."""
    for option, value in limits.items():
        controller, file = _FILES[option]
        if _enable(directory, controller):
            write(f"{directory}/{leaf}/{file}", "max" if value < 0 else str(value))
            if controller == "memory":
                # the member dies whole, and its siblings live
                write(f"{directory}/{leaf}/memory.oom.group", "1")
    warn_unlimited(f"{directory}/{leaf}", limits, warnings)


def warn_unlimited(directory: str, limits: dict[str, int], warnings: list[str]) -> None:
    """Warn of limits whose files are not there: the controller does not reach so far."""
    for option in limits:
        controller, file = _FILES[option]
        if not exists(f"{directory}/{file}"):
            warnings.append(
                f"--{option.replace('_', '-')} has no effect: the {controller} controller is not "
                f"delegated here; `scopekeeper doctor` says how to get it"
            )


def _enable(directory: str, controller: str) -> bool:
    """Turn a controller on for the children of a cgroup; False where that cannot be."""
    if controller in read(f"{directory}/cgroup.subtree_control").split():
        return True
    if controller not in read(f"{directory}/cgroup.controllers").split():
        return False
    for _ in range(200):
        try:
            write(f"{directory}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno != errno.EBUSY:
                return False
            time.sleep(0.001)  # another launcher is on its way through the scope to its leaf
        else:
            return True
    return False
