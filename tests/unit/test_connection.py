"""What a connection's limits do at moments that a socket seldom meets."""

from __future__ import annotations

import asyncio

from waystation.mirror.connection import Connection, Limits


async def test_a_limit_that_is_checked_before_a_connection_is_made_does_not_end_it_unheard() -> None:
    loop = asyncio.get_running_loop()
    answered = loop.create_future()

    async def converse(connection: Connection) -> None:
        answered.set_result(await connection.next_head())
        connection.finish()

    limits = Limits(header_bytes=1000, phase_s=(5.0, 5.0, 5.0, 5.0, 5.0))
    connection = Connection(converse, limits, loop=loop, ended=lambda _: None)
    connection.check(loop.time())
    assert not connection.closing

    server = await loop.create_server(lambda: connection, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await answered or b"").startswith(b"GET / HTTP/1.1")
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
