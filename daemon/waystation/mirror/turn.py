"""One request on its connection, and the record of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waystation.mirror.connection import Connection
    from waystation.mirror.heads import Head
    from waystation.mirror.journal import Exchange


@dataclass(slots=True)
class Turn:
    """What is needed to answer."""

    connection: Connection
    request: Head
    exchange: Exchange

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow, as far as is known now."""
        return self.request.keep_alive and not self.connection.closing

    @property
    def is_head(self) -> bool:
        """Whether the answer has no body, whatever it says."""
        return self.request.method == "HEAD"

    def begin(self, code: int, head: bytes, body: bytes | memoryview = b"") -> None:
        """Send the answer's head, and the body behind it where that is in memory.

        Raises:
            ClientGone: nobody is there to read it.
        """
        self.connection.write(b"".join((head, body)))
        self.exchange.begin(code)
        self.exchange.sent_bytes += len(body)
