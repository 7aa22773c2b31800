"""A launcher around an MCP server, as npx and uv are: what it leaves behind is what leaks.

    with_helper.py [--helpers] [--deaf] -- COMMAND [ARG]...

``--helpers`` first starts two that no signal to the server or its process group reaches: one in a
session of its own, and one that was forked twice and belongs to PID 1. ``--deaf`` keeps the
server's standard input open after the gateway is gone, as a wrapper with a pipe of its own does.
Then this process becomes the server.
"""

import os
import sys
import time

# Bounded, so that nothing of a test that was killed stays for ever.
LIFE_S = 900
HELPER = ("sleep", str(LIFE_S))


def main() -> None:
    at = sys.argv.index("--")
    options, command = sys.argv[1:at], sys.argv[at + 1 :]
    if "--helpers" in options:
        start_helper(twice=False)
        start_helper(twice=True)
    if "--deaf" in options:
        keep_input_open()
    os.execvp(command[0], command)


def start_helper(*, twice: bool) -> None:
    child = os.fork()
    if child:
        if twice:
            os.waitpid(child, 0)
        return
    os.setsid()
    if twice and os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.execvp(HELPER[0], HELPER)


def keep_input_open() -> None:
    """Put a relay before standard input that stays when its own input has ended."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)  # or the gateway would wait for the end of the server's output
        os.close(read_end)
        while chunk := os.read(0, 65536):
            try:
                while chunk:
                    chunk = chunk[os.write(write_end, chunk) :]
            except BrokenPipeError:  # the server has ended
                os._exit(0)
        time.sleep(LIFE_S)
        os._exit(0)
    os.dup2(read_end, 0)
    os.close(read_end)
    os.close(write_end)


main()
