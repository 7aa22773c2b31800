"""What threads have freed is used by other threads: counted in a process of its own."""

import subprocess
import sys

_CHILD = """
import ctypes, sys, threading
from scopekeeper.kernel import malloc
if sys.argv[1] == "little":
    malloc.keep_little()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
turn, all_live = threading.Lock(), threading.Barrier(9)
def work():
    with turn:
        pieces = [libc.malloc(1024) for _ in range(4096)]
        for piece in pieces[:-1]:
            libc.free(piece)
    all_live.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads:
    each.start()
all_live.wait()
with open("/proc/self/smaps_rollup") as file:
    print(*(line.split()[1] for line in file if line.startswith("Anonymous:")))
"""


def kib(how: str) -> int:
    """Return the memory of a process in which eight threads have freed 4 MiB each."""
    return int(subprocess.check_output([sys.executable, "-c", _CHILD, how]))


def test_what_threads_need_one_after_the_other_does_not_add_up():
    assert kib("little") < kib("usual") - 4 * 4096
