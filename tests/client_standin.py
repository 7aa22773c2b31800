"""A stand-in for a client: a program of any name that starts what it is asked to.

Each line on stdin is a JSON object: the words to start, more variables for it, and whether it has a
session of its own (setsid). Prints the pid of each. stdin and stdout are pipes of its own, stderr
is shared. At the end of its stdin it ends, and ends none of them.
"""

import json
import os
import subprocess
import sys


def main() -> None:
    children = []
    for line in sys.stdin:
        asked = json.loads(line)
        children.append(
            subprocess.Popen(
                asked["words"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | asked["variables"], start_new_session=asked["own"],
            )
        )  # fmt: skip
        print(children[-1].pid, flush=True)


if __name__ == "__main__":
    main()
