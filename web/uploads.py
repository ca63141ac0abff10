"""Photos in the bodies of requests, few at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_PIXELS = 50_000_000
"""Pixels of a photo."""
SECONDS = 60.0
"""Time in which a photo has to arrive, so that a stalled one does not keep others waiting."""


class Uploads:
    """Reads photos.

    Args:
        limit: photos that are in memory at once; others wait to be read.
    """

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, which counts as one photo until the block ends.

        Raises:
            HTTPException: 408 if it does not arrive within `SECONDS`.
        """
        async with self._free:
            try:
                async with asyncio.timeout(SECONDS):
                    photo = await request.body()
            except TimeoutError:
                raise HTTPException(408, "the photo did not arrive in time: try again") from None
            yield photo
