"""The kernel's proc connector: tells how every process of the machine ended (cn_proc.h).

Spoken here in a few bytes: pyroute2's ProcEventSocket (which the tests decode them with) takes
14 MiB and 0.2 s to import, cannot be used inside of a running loop, and cannot narrow what it is
sent. A filter in the kernel passes only the processes that are watched, so that nothing else on
the machine wakes anybody or fills the queue.

For root, since Linux 6.6 for everybody; only in the initial PID, user and network namespace.
"""

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterable

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_LISTEN = 1
_DONE = 3
_EVENT_NONE, _EVENT_EXIT = 0, 0x80000000
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_ROOM = 4 << 20
_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
_MESSAGE = struct.Struct("=IIIIHH")
"""cn_msg: index, value, sequence, acknowledged, length, flags."""
_EVENT = struct.Struct("=IIQIII")
"""proc_event of an exit: what, processor, nanoseconds, pid, tgid, wait status."""
_BODY = _HEADER.size + _MESSAGE.size
_WHAT_AT, _PID_AT, _TGID_AT = _BODY, _BODY + 16, _BODY + 20
_ANSWER_SECONDS = 0.5
_FRESH_SECONDS = 5.0
"""How late a busy loop may ask; a first thread that ended longer ago was not the process's end."""

_LOAD, _EQUALS, _EQUALS_X, _TO_X, _GO, _RETURN = 0x20, 0x15, 0x1D, 0x07, 0x05, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_BLOCK = 250
"""A jump reaches 255 instructions."""
MOST = 4000
"""Processes that a filter can name; its length is 4,096 instructions."""


def subscription() -> bytes:
    """Return the message that asks for events."""
    body = _MESSAGE.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", _LISTEN)
    return _HEADER.pack(_HEADER.size + len(body), _DONE, 0, 0, 0) + body


def exits(raw: bytes) -> dict[int, tuple[int, int]]:
    """Return (wait status, nanoseconds of the monotonic clock) of the processes that ended."""
    found = {}
    at = 0
    while at + _BODY + _EVENT.size <= len(raw):
        length = _HEADER.unpack_from(raw, at)[0]
        what, _, when, pid, tgid, status = _EVENT.unpack_from(raw, at + _BODY)
        if what == _EVENT_EXIT and pid == tgid:
            found[pid] = (status, when)
        at += max(length + 3 & ~3, _HEADER.size)
    return found


def filter_for(pids: Iterable[int] | None) -> bytes:
    """Return the program that lets the ends of these processes through, of all where None."""
    lines = [(_LOAD, 0, 0, _WHAT_AT), (_EQUALS, 1, 0, _swapped(_EVENT_EXIT)), (_RETURN, 0, 0, 0)]
    if pids is None:
        lines += [(_LOAD, 0, 0, _TGID_AT), (_TO_X, 0, 0, 0), (_LOAD, 0, 0, _PID_AT)]
        lines += [(_EQUALS_X, 0, 1, 0), (_RETURN, 0, 0, 0xFFFFFFFF)]
    else:
        lines.append((_LOAD, 0, 0, _PID_AT))
        wanted = sorted(pids)[:MOST]
        for start in range(0, len(wanted), _BLOCK):
            block = wanted[start : start + _BLOCK]
            lines += [(_EQUALS, len(block) - at, 0, _swapped(p)) for at, p in enumerate(block)]
            lines += [(_GO, 0, 0, 1), (_RETURN, 0, 0, 0xFFFFFFFF)]
    lines.append((_RETURN, 0, 0, 0))
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def _swapped(number: int) -> int:
    """Return a number as the filter loads it: it takes the message's bytes for big-endian."""
    return int.from_bytes(number.to_bytes(4, sys.byteorder), "big")


class Connector:
    """A subscription; raises OSError where this process cannot have one.

    Nobody has to be woken by it: it is asked when a pidfd says that a process has ended. The kernel
    queues the event a moment after that.
    """

    def __init__(self) -> None:
        self._ended: dict[int, tuple[int, int]] = {}
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        try:
            self._socket.setblocking(False)
            self._make_room()
            self._socket.bind((0, _CN_IDX_PROC))
            self._socket.send(subscription())
            self._await_answer()
            self.narrow([])
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def _make_room(self) -> None:
        """Have the queue hold what ends at once when many scopes are stopped together."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)  # as far as allowed
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)

    def _await_answer(self) -> None:
        """Wait for the kernel's acknowledgement; in a namespace of its own there comes none."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raw = self._socket.recv(4096)
            if len(raw) >= _BODY + _EVENT.size:
                what, _, _, error, *_ = _EVENT.unpack_from(raw, _BODY)
                if what == _EVENT_NONE:
                    if error:
                        raise OSError(error, os.strerror(error))
                    return
        raise OSError(errno.EOPNOTSUPP, "the proc connector does not answer here")

    def widen(self) -> None:
        """Let the ends of all processes through, until the next ``narrow``."""
        self._attach(filter_for(None))

    def narrow(self, pids: Iterable[int]) -> None:
        """Let only these through; of more than MOST only the lowest."""
        self._attach(filter_for(pids))

    def _attach(self, program: bytes) -> None:
        instructions = ctypes.create_string_buffer(program, len(program))
        length = len(program) // _INSTRUCTION.size
        option = struct.pack("@HP", length, ctypes.addressof(instructions))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)

    def ended(self, pid: int) -> int | None:
        """Return the wait status of a process that has ended, None where it is not known (yet).

        The event is of the process's first thread. One that ended long before the others has a
        status of its own, which says nothing about the process.
        """
        self._drain()
        status, when = self._ended.pop(pid, (None, 0))
        return status if time.monotonic_ns() - when < _FRESH_SECONDS * 1e9 else None

    def keep_only(self, pids: set[int]) -> None:
        """Forget how others ended, which came while the filter was wide."""
        self._drain()
        self._ended = {pid: end for pid, end in self._ended.items() if pid in pids}

    def _drain(self) -> None:
        while True:
            try:
                self._ended.update(exits(self._socket.recv(65536)))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost: unknown, but not of all
                    raise
