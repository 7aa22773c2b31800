"""Runs a program in a service that nobody watches, and prints its output.

``systemd-run --wait`` asks for all properties of the service each time that one changes, and a
scope bound to the service changes one. That takes systemd 5 ms in the middle of a measurement.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.launch import MODE

_END = "exit status "


def alone(argv: Sequence[str]) -> int:
    """Run argv as a transient service and return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = os.path.join(folder, "out")
        os.mkfifo(pipe)
        script = f'"$@" >"{pipe}" 2>&1; echo "{_END}$?" >"{pipe}"'
        options = [f"--setenv=PATH={os.environ['PATH']}", f"--working-directory={os.getcwd()}"]
        keep_open = os.open(pipe, os.O_RDWR)  # so that neither side waits for the other
        subprocess.run(
            ["systemd-run", *MODE, "--quiet", "--collect", *options,
             "/bin/sh", "-c", script, "sh", *argv],
            check=True,
        )  # fmt: skip
        with os.fdopen(keep_open, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(_END):
                    return int(line[len(_END) :])
                sys.stdout.write(line)
                sys.stdout.flush()
    return 1
