"""Limits written to cgroupfs: of a member's leaf, and of a scope without a manager."""

import errno
import time

from scopekeeper.kernel.proc import exists, read, write

_FILES = {
    "memory_max": ("memory", "memory.max"),
    "memory_high": ("memory", "memory.high"),
    "memory_swap_max": ("memory", "memory.swap.max"),
    "tasks_max": ("pids", "pids.max"),
    "cpu_weight": ("cpu", "cpu.weight"),
    "member_memory_max": ("memory", "memory.max"),
    "member_memory_swap_max": ("memory", "memory.swap.max"),
    "member_tasks_max": ("pids", "pids.max"),
}


def limit_folder(base: str, directory: str, limits: dict[str, int], warnings: list[str]) -> None:
    """Limit a scope without a manager; base is the folder that contains it."""
    for option, value in limits.items():
        controller, file = _FILES[option]
        if enable(base, controller) and exists(f"{directory}/{file}"):
            write(f"{directory}/{file}", "max" if value < 0 else str(value))
    warn_unlimited(directory, limits, warnings)


def limit_member(directory: str, leaf: str, limits: dict[str, int], warnings: list[str]) -> None:
    """Limit one member of the scope at directory."""
    for option, value in limits.items():
        controller, file = _FILES[option]
        if enable(directory, controller) and exists(f"{directory}/{leaf}/{file}"):
            write(f"{directory}/{leaf}/{file}", "max" if value < 0 else str(value))
            if controller == "memory":
                # the kernel kills the whole member, not its siblings
                write(f"{directory}/{leaf}/memory.oom.group", "1")
    warn_unlimited(f"{directory}/{leaf}", limits, warnings)


def warn_unlimited(directory: str, limits: dict[str, int], warnings: list[str]) -> None:
    """Warn of limits whose files are missing: the controller is not delegated down here.

    That of swap is also missing where the kernel does not count swap (swapaccount=0).
    """
    for option in limits:
        controller, file = _FILES[option]
        if exists(f"{directory}/{file}"):
            continue
        why = (
            "the kernel does not count swap here"
            if "swap" in option and exists(f"{directory}/memory.max")
            else f"the {controller} controller is not delegated here; `scopekeeper doctor` says "
            "how to get it"
        )
        warnings.append(f"--{option.replace('_', '-')} has no effect: {why}")


def enable(directory: str, controller: str) -> bool:
    """Enable a controller for the children of a cgroup; return False if that fails."""
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
            time.sleep(0.001)  # another launch passes through the scope on its way to its leaf
        else:
            return True
    return False
