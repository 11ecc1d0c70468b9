"""Python's `websockets` against the echo server at 127.0.0.1:PORT: a second opinion beside Autobahn's cases."""

import asyncio
import sys

import websockets
from websockets.asyncio.client import connect


async def main():
    async with connect(f"ws://127.0.0.1:{sys.argv[1]}", max_size=2**24, compression=None) as client:
        passed = 0
        for length in (1, 125, 126, 65535, 65536, 2**20):
            payload = bytes(index % 251 for index in range(length))
            await client.send(payload)
            assert await client.recv() == payload
            passed += 1
        await client.send(["frag", "ments", "", " joined"])
        assert await client.recv() == "fragments joined"
        await (await client.ping(b"?" * 125))
        await client.close(1000, "done")
        assert (client.close_code, client.close_reason) == (1000, "")
        passed += 3
    print(f"websockets {websockets.__version__}: {passed} passed, 0 failed")


asyncio.run(asyncio.wait_for(main(), 30))
