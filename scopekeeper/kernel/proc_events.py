"""The kernel's proc connector: the exit status of every process on the machine (cn_proc.h).

This module packs the few messages itself. pyroute2's ProcEventSocket takes 14 MiB and 0.2 s to
import, does not work inside a running event loop, and cannot set a filter; the tests decode our
messages with it. A filter in the kernel passes only watched processes, so that the others neither
wake the keeper nor fill the queue.

Root only before Linux 6.6; only in the initial PID, user and network namespaces.
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
"""proc_event of an exit: type, CPU, nanoseconds, pid, tgid, wait status."""
_BODY = _HEADER.size + _MESSAGE.size
_WHAT_AT, _PID_AT, _TGID_AT = _BODY, _BODY + 16, _BODY + 20
_ANSWER_SECONDS = 0.5
_FRESH_SECONDS = 5.0
"""The delay of a busy loop. An older event is of a first thread that ended before its process."""

_LOAD, _EQUALS, _EQUALS_X, _TO_X, _GO, _RETURN = 0x20, 0x15, 0x1D, 0x07, 0x05, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_BLOCK = 250
"""A jump reaches 255 instructions."""
MOST = 4000
"""Processes in one filter; the kernel allows 4,096 instructions."""


def subscription() -> bytes:
    """Return the message that subscribes to events."""
    body = _MESSAGE.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", _LISTEN)
    return _HEADER.pack(_HEADER.size + len(body), _DONE, 0, 0, 0) + body


def exits(raw: bytes) -> dict[int, tuple[int, int]]:
    """Return the wait status and the time (monotonic, in ns) of each process that ended, by pid."""
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
    """Return the BPF program that passes exits of these processes, or of all if pids is None."""
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
    """Return a number as the filter loads it: it reads the message's bytes as big-endian."""
    return int.from_bytes(number.to_bytes(4, sys.byteorder), "big")


class Connector:
    """A subscription to exits; raises OSError if the kernel refuses it to this process.

    It need not wake anybody: ask it when a pidfd reports that a process has ended. The kernel
    queues the event a moment later.
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
        """Enlarge the queue for the many exits when many scopes are stopped together."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)  # as far as allowed
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)

    def _await_answer(self) -> None:
        """Wait for the kernel's acknowledgement; other than initial namespaces get none."""
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
        """Pass the exits of all processes until the next ``narrow``."""
        self._attach(filter_for(None))

    def narrow(self, pids: Iterable[int]) -> None:
        """Pass only the exits of these; of more than MOST only the lowest pids."""
        self._attach(filter_for(pids))

    def _attach(self, program: bytes) -> None:
        instructions = ctypes.create_string_buffer(program, len(program))
        length = len(program) // _INSTRUCTION.size
        option = struct.pack("@HP", length, ctypes.addressof(instructions))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)

    def ended(self, pid: int) -> int | None:
        """Return the wait status of a process that has ended, None if it is not known (yet).

        The event is about the process's first thread. If that ended long before the others, its
        status is not the process's, and is ignored.
        """
        self._drain()
        status, when = self._ended.pop(pid, (None, 0))
        return status if time.monotonic_ns() - when < _FRESH_SECONDS * 1e9 else None

    def keep_only(self, pids: set[int]) -> None:
        """Drop the exits of other processes, which arrived while the filter was wide."""
        self._drain()
        self._ended = {pid: end for pid, end in self._ended.items() if pid in pids}

    def _drain(self) -> None:
        while True:
            try:
                self._ended.update(exits(self._socket.recv(65536)))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the queue overflowed: some exits are unknown
                    raise
