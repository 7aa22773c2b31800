"""A program of its own: moves itself into a cgroup, and becomes a command.

``python -I -S enter_cgroup.py CGROUP COMMAND ARGUMENT...``: a fork of the keeper could not, since
it has threads.
"""

import os
import sys

FAILED = 125
"""Exit status if the cgroup cannot be entered."""
NOT_EXECUTED = 127


def main(folder: str, argv: list[str]) -> None:
    """Never return."""
    try:
        with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
            file.write("0")
    except OSError as error:
        os.write(2, f"cannot enter {folder}: {error.strerror}\n".encode())
        os._exit(FAILED)
    try:
        os.execv(argv[0], argv)  # noqa: S606  that is what is wanted
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(NOT_EXECUTED)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
