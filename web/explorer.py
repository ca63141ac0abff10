"""Routes of the explorer page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from web.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """The routes of the explorer page, below /api/explorer/.

    Args:
        context: What the pages share. `context.generator()` is the run's generator.
    """
    explorer = _Explorer(context)
    return [
        Route("/api/explorer/weights", explorer.weights),
        Route("/api/explorer/photo", explorer.photo_status),
    ]


class _Explorer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._weights: bytes | None = None

    async def weights(self, request: Request) -> Response:
        """The generator for the page: see `gan.export.page_weights`."""
        content = await self._context.compute(self._load_weights)
        return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})

    def _load_weights(self) -> bytes:
        if self._weights is None:
            from gan.export.page_weights import page_weights
            from gan.latent.directions import Directions

            generator = self._context.generator()
            self._weights = page_weights(generator, Directions.of(generator))
        return self._weights

    async def photo_status(self, request: Request) -> Response:
        """Whether a photo can become a face to edit."""
        return JSONResponse({"available": False})
