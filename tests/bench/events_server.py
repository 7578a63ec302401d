"""An upstream that streams server-sent events: one every 20 ms, each with the time at which it was written."""

import asyncio
import sys
import time

PAUSE = 0.02
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                           if line.startswith(b"content-length:")), 0)
            # The request's body says how many events are wanted.
            count = int(await reader.readexactly(length))
            writer.write(HEAD)
            for _ in range(count):
                event = b"event: ping\ndata: %d\n\n" % time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(PAUSE)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    servers = [await asyncio.start_server(serve, host, int(port))
               for host, _, port in (address.rpartition(":") for address in sys.argv[1:])]
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main())
