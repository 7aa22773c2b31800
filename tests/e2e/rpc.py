"""Calls to a gateway over its WebSocket: OpenClaw's protocol, frames by RFC 6455.

The command ``openclaw gateway call`` does the same, with some seconds of start each time. A client
over loopback that knows the shared token and signs as a device is paired without being asked.
"""

import base64
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from typing import Any

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
PROTOCOLS = (3, 4)
SCOPES = ("operator.admin", "operator.read", "operator.write", "operator.approvals")
CLIENT = {"id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend"}
# Python's standard library has no Ed25519, Node's has. $1 to $3: what is signed before the
# device's id, between it and the time, and after: fields with | between them.
SIGN = """
const crypto = require("node:crypto");
const [before, between, after, signedAt] = process.argv.slice(1);
const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
const id = crypto.createHash("sha256").update(raw).digest("hex");
const text = [before, id, between, signedAt, after].join("|");
const signature = crypto.sign(null, Buffer.from(text), privateKey).toString("base64url");
console.log(JSON.stringify({ id, publicKey: raw.toString("base64url"), signature }));
"""


class RefusedError(Exception):
    """The gateway answered a call with an error."""


class Gateway:
    """A connection to the gateway at a port of loopback."""

    def __init__(self, port: int, token: str, node: str, seconds: float = 60.0) -> None:
        self._node = node
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._rest = b""
        self._count = 0
        try:
            self._upgrade(port)
            self._connect(token, seconds)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Leave, without ceremony."""
        self._socket.close()

    def call(self, method: str, seconds: float = 90.0, **parameters: Any) -> Any:
        """Call a method and return the payload of its last answer.

        Some are answered twice: at first that they were accepted, then with their result.
        """
        self._count += 1
        number = f"call-{self._count}"
        frame = {"type": "req", "id": number, "method": method, "params": parameters}
        self._send(TEXT, json.dumps(frame).encode())
        deadline = time.monotonic() + seconds
        while True:
            answer = self._receive(deadline)
            if answer.get("type") != "res" or answer.get("id") != number:
                continue
            if not answer.get("ok"):
                raise RefusedError(f"{method}: {json.dumps(answer.get('error'))}")
            payload = answer.get("payload")
            if isinstance(payload, Mapping) and payload.get("status") == "accepted":
                continue
            return payload

    def _upgrade(self, port: int) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            "GET / HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        )
        self._socket.sendall("\r\n".join((*lines, "", "")).encode())
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._more()
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.decode(errors="replace"))

    def _connect(self, token: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (event := self._receive(deadline)).get("event") != "connect.challenge":
            pass
        challenge = event["payload"]
        self.call(
            "connect",
            minProtocol=PROTOCOLS[0],
            maxProtocol=PROTOCOLS[-1],
            client=CLIENT,
            role="operator",
            scopes=list(SCOPES),
            caps=[],
            auth={"token": token},
            device=self._device(token, challenge["nonce"], challenge["ts"]),
        )

    def _device(self, token: str, nonce: str, signed_at: int) -> dict[str, Any]:
        """Return a device that exists for this connection only, and its signature."""
        between = (CLIENT["id"], CLIENT["mode"], "operator", ",".join(SCOPES))
        after = (token, nonce, CLIENT["platform"], "")
        words = ("v3", "|".join(between), "|".join(after), str(signed_at))
        done = subprocess.run(
            [self._node, "-e", SIGN, "--", *words], capture_output=True, text=True, check=True
        )
        made: dict[str, Any] = json.loads(done.stdout)
        return made | {"signedAt": signed_at, "nonce": nonce}

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the gateway closed the connection")
        return data

    def _send(self, kind: int, data: bytes) -> None:
        # a client masks what it sends; with zeros, it stays as it is
        size = len(data)
        if size < 126:
            head = struct.pack(">BB", 0x80 | kind, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | kind, 0x80 | 127, size)
        self._socket.sendall(head + bytes(4) + data)

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._rest += self._more()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _receive(self, deadline: float) -> dict[str, Any]:
        """Return the next message; answers pings, joins fragments."""
        whole = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the gateway did not answer in time")
            self._socket.settimeout(left)
            first, second = self._take(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", self._take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._take(8))
            data = self._take(size)
            kind = first & 0x0F
            if kind == PING:
                self._send(PONG, data)
            elif kind == CLOSE:
                raise ConnectionError(f"the gateway closed: {data[2:].decode(errors='replace')}")
            elif kind in (0, TEXT):
                whole += data
                if first & 0x80:
                    message: dict[str, Any] = json.loads(whole)
                    return message
