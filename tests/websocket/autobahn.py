"""Autobahn's cases (its package `case`, converted to Python 3) against an echo server at 127.0.0.1:PORT.

Usage: autobahn.py FOLDER PORT. The cases decide by themselves whether they passed. Only the connection that they are
given is ours, because Autobahn's needs Python 2: `Peer` has the names and the meanings of its WebSocketClientProtocol.
Sections 6 (UTF-8: the codec does not look into text), 12 and 13 (compression: it agrees to no extension) are left out, and so is
9.9, which Autobahn itself does not run.
"""

import asyncio
import base64
import importlib
import logging
import os
import re
import sys
import types

SECTIONS = ("1", "2", "3", "4", "5", "7", "9", "10")
# At most this many at once, so that the server is slow for none.
CASES_AT_ONCE = 12
CASE_S_MAX = 150
PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")


def as_bytes(payload):
    """Python 2's strings are bytes: each character of the converted cases is one."""
    return payload if isinstance(payload, bytes) else payload.encode("latin-1")


def plain(value):
    """The same for what a case compares: nested lists and tuples with strings of bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


class Peer:
    """One connection, as Autobahn's cases use it."""

    STATE_OPEN, STATE_CLOSING, STATE_CLOSED = "open", "closing", "closed"
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.state = self.STATE_OPEN
        self.factory = types.SimpleNamespace(isServer=False)
        self.connectionWasOpen = True
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode = self.remoteCloseReason = None
        self.localCloseCode = self.localCloseReason = None
        self.createWirelog = True
        self.autoFragmentSize = 0
        self.txFrameStats = {}

    # The verbs of the cases.

    def enableWirelog(self, enable):
        self.createWirelog = enable

    def sendFrame(self, opcode, payload="", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        payload = as_bytes(payload)
        if payload_len is not None:
            payload = (payload * (payload_len // max(1, len(payload)) + 1))[:payload_len]
        length = len(payload)
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 65536:
            head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else:
            head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
        mask = mask or os.urandom(4)
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
        data = head + mask + masked
        if self.state == self.STATE_CLOSED:
            return
        step = chopsize or len(data)
        for at in range(0, len(data), step):
            # asyncio passes each write to the socket at once while that takes it.
            if self.writer.transport.is_closing():
                return
            self.writer.write(data[at : at + step])

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False):
        opcode = 2 if isBinary else 1
        size = fragmentSize or self.autoFragmentSize or max(1, len(payload))
        parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [payload]
        for number, part in enumerate(parts):
            self.sendFrame(opcode=opcode if number == 0 else 0, payload=part, fin=number + 1 == len(parts))

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        if self.state != self.STATE_OPEN:
            return
        payload = b"" if code is None else code.to_bytes(2, "big") + as_bytes(reasonUtf8 or b"")
        self.localCloseCode, self.localCloseReason = code, as_bytes(reasonUtf8 or b"")
        self.sendFrame(opcode=8, payload=payload)
        self.closedByMe = not isReply
        self.state = self.STATE_CLOSING

    def sendClose(self, code=None, reason=None):
        self.sendCloseFrame(code, reason.encode() if reason is not None else None)

    def continueLater(self, delay, then, tag=None):
        asyncio.get_running_loop().call_later(delay, lambda: self.state != self.STATE_CLOSED and then())

    def closeAfter(self, delay):
        self.continueLater(delay, self.sendClose)

    def killAfter(self, delay):
        def kill():
            self.failedByMe = True
            self.writer.transport.abort()

        self.continueLater(delay, kill)

    # The stream.

    async def run(self, case):
        """Runs `case` until the connection has ended."""
        case.onOpen()
        message, is_binary, has_closed = b"", False, False
        try:
            while True:
                opcode, fin, payload = await asyncio.wait_for(self.frame(), 1 if has_closed else CASE_S_MAX)
                if has_closed:
                    raise AssertionError("a frame behind Close")
                if opcode in (0, 1, 2):
                    if opcode:
                        message, is_binary = b"", opcode == 2
                    message += payload
                    if fin and self.state == self.STATE_OPEN:
                        case.onMessage(plain(message), is_binary)
                elif opcode == 9:
                    self.sendFrame(opcode=10, payload=payload)
                    case.onPing(plain(payload))
                elif opcode == 10:
                    if self.state == self.STATE_OPEN:
                        case.onPong(plain(payload))
                elif opcode == 8:
                    if payload:
                        self.remoteCloseCode = int.from_bytes(payload[:2], "big")
                        self.remoteCloseReason = payload[2:].decode()
                    self.sendCloseFrame(self.remoteCloseCode, isReply=True)
                    # The server is to end the connection now.
                    self.wasClean = has_closed = True
                    case.onClose(True, self.remoteCloseCode, self.remoteCloseReason)
                else:
                    raise AssertionError(f"opcode {opcode}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.TimeoutError:
            self.droppedByMe = True
        self.state = self.STATE_CLOSED
        self.writer.transport.abort()
        case.onConnectionLost(self.failedByMe)

    async def frame(self):
        first, second = await self.reader.readexactly(2)
        if second & 0x80 or first & 0x70:
            raise AssertionError("a server masks nothing and knows no extension")
        length = second
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, bool(first & 0x80), await self.reader.readexactly(length)


async def connect(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise AssertionError(head)
    return Peer(reader, writer)


def load(folder):
    """The cases: pairs of a number such as 1.1.1 and a class."""
    # The cases ask Autobahn's own protocol for a state; nothing else is imported from it in these sections.
    for name in ("autobahn", "autobahn.websocket", "autobahn.websocket.protocol"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["autobahn.websocket.protocol"].WebSocketProtocol = Peer
    sys.path.insert(0, folder)
    base = importlib.import_module("case.case").Case
    base.compare = lambda self, one, other: plain(one) == plain(other)
    found = {}
    for file in os.listdir(os.path.join(folder, "case")):
        match = re.match(r"case((\d+)_\w+)\.py$", file)
        if not match or match[2] not in SECTIONS or match[1] == "9_9_1":
            continue
        module = vars(importlib.import_module(f"case.case{match[1]}"))
        for name, value in module.items():
            # Lists hold generated cases.
            for case in value if isinstance(value, list) and name.startswith("Case") else [value]:
                if isinstance(case, type) and issubclass(case, base) and case is not base:
                    found[case.__name__.removeprefix("Case").replace("_", ".")] = case
    return sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")])


async def judge(number, kind, port, at_once):
    """None, or why the case has failed."""
    async with at_once:
        peer = await connect(port)
        case = kind(peer)
        try:
            await asyncio.wait_for(peer.run(case), CASE_S_MAX)
        except (AssertionError, asyncio.TimeoutError) as error:
            return f"{number}: {error!r}"
        if case.behavior in PASSED and case.behaviorClose in PASSED:
            return None
        return f"{number}: {case.behavior} ({case.result}), close {case.behaviorClose} ({case.resultClose}): {case.received!r:.300}"


async def main():
    folder, port = sys.argv[1], int(sys.argv[2])
    # A server that refuses what a case sends resets the connection, which is no fault of the client.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    cases = load(folder)
    # The suite's own count for these sections: nothing was lost in the conversion.
    if len(cases) != 156:
        sys.exit(f"{len(cases)} cases were found, not 156")
    at_once = asyncio.Semaphore(CASES_AT_ONCE)
    verdicts = await asyncio.gather(*(judge(number, case, port, at_once) for number, case in cases))
    failures = [verdict for verdict in verdicts if verdict]
    print(*failures, sep="\n", end="\n" if failures else "")
    print(f"Autobahn 25.10.1: {len(cases) - len(failures)} passed, {len(failures)} failed")
    sys.exit(bool(failures))


asyncio.run(main())
