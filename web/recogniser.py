"""Routes of the recogniser page: faces in photos, their names, and the people who are enrolled."""

from __future__ import annotations

import math

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from faces.recognition.commands import UNKNOWN
from images.decode import UnusableImageError
from web.answers import Json
from web.context import Context
from web.library import Library
from web.recognition import Recognition, Source
from web.uploads import Uploads

UPLOADS = 3
"""Photos that are in memory at once; others wait to be read."""


def routes(context: Context) -> list[BaseRoute]:
    """The routes of the recogniser page, below /api/recogniser/.

    Args:
        context: what the pages share.
    """
    pages = _Recogniser(context, Recognition(context, Library(context.output, context.run)))
    return [
        Route("/api/recogniser/sources", pages.sources),
        Route("/api/recogniser/source", pages.source),
        Route("/api/recogniser/faces", pages.faces, methods=["POST"]),
        Route("/api/recogniser/enroll", pages.enroll, methods=["POST"]),
        Route("/api/recogniser/rename", pages.rename, methods=["POST"]),
        Route("/api/recogniser/remove", pages.remove, methods=["POST"]),
        Route("/api/recogniser/threshold", pages.threshold, methods=["POST"]),
    ]


class _Recogniser:
    def __init__(self, context: Context, recognition: Recognition) -> None:
        self._context, self._recognition = context, recognition
        self._uploads = Uploads(UPLOADS)

    async def sources(self, request: Request) -> Response:
        """All sources of names, without loading any network."""
        found = await anyio.to_thread.run_sync(self._recognition.sources)
        listed = [{"name": source.name, "kind": source.kind, "label": source.label} for source in found]
        return Json({"sources": listed, "unknown": UNKNOWN, "output": str(self._context.output)})

    async def source(self, request: Request) -> Response:
        """The names, threshold and rates of a source."""
        return Json(await self._context.compute(self._recognition.describe, await self._find(request)))

    async def faces(self, request: Request) -> Response:
        """The faces of the photo in the body."""
        whole = request.query_params.get("whole") == "1"
        source = await self._find(request)
        async with self._uploads.read(request) as photo:
            try:
                answer = await self._context.compute(self._recognition.faces, source, photo, whole=whole)
            except UnusableImageError as unusable:
                raise HTTPException(422, str(unusable)) from None
        return Json(answer)

    async def enroll(self, request: Request) -> Response:
        """Add the face in the body to a gallery."""
        name = _text(request, "name")
        source = await self._find(request)
        async with self._uploads.read(request) as crop:
            try:
                answer = await self._context.compute(self._recognition.enroll, source, name, crop)
            except UnusableImageError as unusable:
                raise HTTPException(422, str(unusable)) from None
        return Json(answer)

    async def rename(self, request: Request) -> Response:
        """Give a person another name."""
        name, new, source = _text(request, "name"), _text(request, "new"), await self._find(request)
        return Json(await self._context.compute(self._recognition.rename, source, name, new))

    async def remove(self, request: Request) -> Response:
        """Remove a person."""
        name, source = _text(request, "name"), await self._find(request)
        return Json(await self._context.compute(self._recognition.remove, source, name))

    async def threshold(self, request: Request) -> Response:
        """Keep a threshold."""
        try:
            value = float(_text(request, "value"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise HTTPException(400, "value must be a number")
        source = await self._find(request)
        return Json(await self._context.compute(self._recognition.set_threshold, source, value))

    async def _find(self, request: Request) -> Source:
        name = request.query_params.get("source", "")
        return await anyio.to_thread.run_sync(self._recognition.find, name)


def _text(request: Request, name: str, limit: int = 200) -> str:
    """A text of the query. Raises `HTTPException` 400 if it is missing or longer than `limit`."""
    text = request.query_params.get(name, "")
    if not 1 <= len(text) <= limit:
        raise HTTPException(400, f"{name} must have 1 to {limit} characters")
    return text
