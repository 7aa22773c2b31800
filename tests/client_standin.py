"""A stand-in for a client: a program of any name that starts what it is asked to.

Each line on stdin is a JSON object: the words to start, more variables for it, whether it has a
session of its own (setsid), and a file for its output, if any. Prints the pid of each. stdin and
stdout are pipes of its own, but for such a file; stderr is shared. A variable with the
value ``PID`` has the pid of the client. At the end of its stdin it ends, and ends none of them.
"""

import json
import os
import subprocess
import sys


def main() -> None:
    children = []
    for line in sys.stdin:
        asked = json.loads(line)
        pid = {name: str(os.getpid()) for name, value in asked["variables"].items()
               if value == "PID"}  # fmt: skip
        flags = os.O_WRONLY | os.O_CREAT
        output = os.open(asked["output"], flags) if asked.get("output") else subprocess.PIPE
        children.append(
            subprocess.Popen(
                asked["words"], stdin=subprocess.PIPE, stdout=output,
                env=os.environ | asked["variables"] | pid, start_new_session=asked["own"],
            )
        )  # fmt: skip
        if asked.get("output"):
            os.close(output)
        print(children[-1].pid, flush=True)


if __name__ == "__main__":
    main()
