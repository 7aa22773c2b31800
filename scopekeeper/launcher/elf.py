"""Writes a small ELF program that starts Python, because a script cannot be a login shell.

The kernel drops the first word of a script's arguments, and with it the ``-`` of a login shell. And
a script whose interpreter is missing does not start, which would lock out its user. This program
passes its first word on, and becomes ``/bin/sh`` if Python is missing; or ``bash -c`` with its
arguments, for a program that takes a command line.
"""

import struct

MACHINE = "x86_64"
"""The only machine type supported and tested; others keep the script."""

_BASE = 0x400000
_HEADERS = 64 + 2 * 56
_LOST = b"scopekeeper: %s cannot be executed; this is /bin/sh\n"
_LOST_LINE = b"scopekeeper: %s cannot be executed; this command runs uncontained\n"


def program(python: bytes, text: str, *, takes_line: bool = False) -> bytes:
    """Return an executable that runs ``python -IS -c text`` with all its own words.

    takes_line: without Python, its first argument is a command line for the shell.
    """
    if b"\0" in python or "\0" in text:
        raise ValueError("NUL in a word")
    lost = (_LOST_LINE if takes_line else _LOST) % python
    words = {
        "python": python + b"\0", "flags": b"-IS\0", "c": b"-c\0", "text": text.encode() + b"\0",
        "sh": b"/bin/sh\0", "-sh": b"-sh\0", "lost": lost,
    }  # fmt: skip
    if takes_line:
        words["bash"] = b"/bin/bash\0"
    length = len(_code(dict.fromkeys(words, 0), 0, takes_line=takes_line))
    at, addresses = _BASE + _HEADERS + length, {}
    for name, word in words.items():
        addresses[name] = at
        at += len(word)
    code = _code(addresses, len(lost), takes_line=takes_line)
    return _headers(at - _BASE) + code + b"".join(words.values())


def _word(opcode: str, value: int) -> bytes:
    return bytes.fromhex(opcode) + struct.pack("<I", value)


def _code(at: dict[str, int], lost_length: int, *, takes_line: bool) -> bytes:
    word = _word
    pieces = (
        bytes.fromhex("5f"),  # pop rdi: argc; what is left on the stack is argv, NULL, envp
        bytes.fromhex("4889e5"),  # mov rbp, rsp
        bytes.fromhex("488d54fc08"),  # lea rdx, [rsp + rdi*8 + 8]: envp
        word("68", at["text"]),  # push: four more words right before argv
        word("68", at["c"]),
        word("68", at["flags"]),
        word("68", at["python"]),
        word("bf", at["python"]),  # mov edi
        bytes.fromhex("4889e6"),  # mov rsi, rsp
        bytes.fromhex("6a3b580f05"),  # execve
        bytes.fromhex("4989d4"),  # it came back. mov r12, rdx
        bytes.fromhex("6a025f"),  # mov edi, 2
        word("be", at["lost"]),  # mov esi
        word("ba", lost_length),  # mov edx
        bytes.fromhex("6a01580f05"),  # write
        _shell_for_line(at) if takes_line else _shell(at),
        word("bf", at["sh"]),  # mov edi
        bytes.fromhex("4c89e2"),  # mov rdx, r12
        bytes.fromhex("6a3b580f05"),  # execve
        word("bf", 127),  # mov edi
        bytes.fromhex("6a3c580f05"),  # exit
    )
    return b"".join(pieces)


def _shell(at: dict[str, int]) -> bytes:
    """Return the code that makes rsi the words of a shell with our arguments."""
    return b"".join((
        _word("b8", at["-sh"]),  # mov eax: the first word becomes -sh
        bytes.fromhex("488b4d00"),  # mov rcx, [rbp]
        bytes.fromhex("80392d"),  # cmp byte [rcx], '-'
        bytes.fromhex("7402"),  # je: over the next
        bytes.fromhex("ffc0"),  # inc eax: or sh
        bytes.fromhex("48894500"),  # mov [rbp], rax
        bytes.fromhex("4889ee"),  # mov rsi, rbp
    ))  # fmt: skip


def _shell_for_line(at: dict[str, int]) -> bytes:
    """Return the code that makes rsi ``bash -c`` and our arguments, and tries /bin/bash first."""
    return b"".join((
        _word("b8", at["c"]),  # mov eax: the first word becomes -c
        bytes.fromhex("48894500"),  # mov [rbp], rax
        _word("b8", at["bash"] + len("/bin/")),  # mov eax: bash before it
        bytes.fromhex("488945f8"),  # mov [rbp - 8], rax
        bytes.fromhex("488d75f8"),  # lea rsi, [rbp - 8]
        _word("bf", at["bash"]),  # mov edi
        bytes.fromhex("4c89e2"),  # mov rdx, r12
        bytes.fromhex("6a3b580f05"),  # execve
    ))  # fmt: skip


def _headers(size: int) -> bytes:
    """Return the ELF header of a static program and its two program headers (elf(5))."""
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # not executable
    return header + load + stack
