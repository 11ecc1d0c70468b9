"""What every Python client looks like to the checks: calls that wait for the broker's answer, messages in a queue.

Everything is awaited with a deadline and nothing slept for. A client's module derives `Client` from `Face`
and says its name and the protocol versions it speaks.
"""

import asyncio
import queue
import sys
import threading
from typing import Any, Dict, NamedTuple

HOST, PORT = sys.argv[2], int(sys.argv[3])
PATIENCE_S = 30


class Message(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    # By the names of PUBLISH's properties in the standard; user_property is a list of pairs.
    properties: Dict[str, Any]


class Face:
    """A connected client.

    A derived class connects when it is made (version, name, clean, will as (topic, payload, qos), expiry_s), sets
    `session_present`, and has subscribe, unsubscribe, publish, publish_all, disconnect and vanish.
    """

    session_present = False

    def __init__(self):
        self.messages = queue.Queue()
        self.closed = threading.Event()

    def message(self):
        return self.messages.get(timeout=PATIENCE_S)

    def texts(self, count):
        return [self.message().payload.decode() for _ in range(count)]

    def await_closed(self):
        """Until the broker has ended the connection."""
        assert self.closed.wait(PATIENCE_S), "the connection is still there"


_loop = None


def run(coroutine):
    """The result of a coroutine of a client that lives in asyncio; one loop in one thread serves them all."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        threading.Thread(target=_loop.run_forever, daemon=True).start()
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result(PATIENCE_S)
