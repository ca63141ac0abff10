"""Routes of the explorer page."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from engine.errors import UserError
from web.answers import Json
from web.context import Context
from web.library import read_config
from web.page_cache import load_page, page_state
from web.photo_faces import PhotoFaces
from web.text import data_url, decode_vector
from web.uploads import Uploads

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from gan.metrics.nearest import TrainingImages

UPLOADS = 2
"""Photos that are in memory at once; others wait to be read."""
WATCH_SECONDS = 0.5
"""Time between looks at whether a page still waits for its face."""


def routes(context: Context) -> list[BaseRoute]:
    """The routes of the explorer page, below /api/explorer/.

    Args:
        context: what the pages share. `context.generator()` is the run's generator.
    """
    explorer = _Explorer(context)
    return [
        Route("/api/explorer/weights", explorer.weights),
        Route("/api/explorer/nearest", explorer.nearest_status),
        Route("/api/explorer/nearest", explorer.nearest, methods=["POST"]),
        Route("/api/explorer/photo", explorer.photo_status),
        Route("/api/explorer/photo", explorer.photo, methods=["POST"]),
    ]


class _Explorer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._weights, self._weights_state = b"", ""
        self._photos: TrainingImages | None = None
        self._photo_faces = PhotoFaces(context.closing)
        self._uploads = Uploads(UPLOADS)

    async def weights(self, request: Request) -> Response:
        """The generator for the page: see `gan.export.page_weights`."""
        content = await self._context.compute(self._load_weights)
        return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})

    async def nearest_status(self, request: Request) -> Response:
        """Whether the run's training images are there, so that the nearest can be found."""
        return Json({"available": await anyio.to_thread.run_sync(_has_training_images, self._context.run)})

    async def nearest(self, request: Request) -> Response:
        """The training images nearest to a face: `{"z": text}` to `{"faces": [{"image", "distance"}]}`.

        See `_current_generator` for the query.
        """
        z = decode_vector(await request.body())
        return Json(await self._context.compute(self._find_nearest, z, _digest(request)))

    async def photo_status(self, request: Request) -> Response:
        """Whether a photo can become a face to edit, and how far the one in progress is."""
        return Json(self._photo_faces.status())

    async def photo(self, request: Request) -> Response:
        """The face of the photo in the body: see `PhotoFaces`; see `_current_generator` for the query."""
        async with self._uploads.read(request) as photo:
            generator = await self._context.compute(self._current_generator, _digest(request))
            # There, as the recogniser's page finds faces too, and one photo at a time keeps the core busy.
            found = await self._context.compute(self._photo_faces.find, generator, photo)
            del photo
        # Not in `compute`: it takes seconds, and minutes the first time, in which other pages are used.
        unwanted = threading.Event()
        fit = asyncio.ensure_future(run_in_threadpool(self._photo_faces.fit, found, unwanted))
        while not (await asyncio.wait([fit], timeout=WATCH_SECONDS))[0]:
            if await request.is_disconnected():
                unwanted.set()
        return Json(await fit)

    def _load_weights(self) -> bytes:
        state = page_state(self._context.run)
        if not self._weights or state != self._weights_state:
            self._weights = load_page(self._context.run, self._context.generator_and_source)
            self._weights_state = state
        return self._weights

    def _current_generator(self, digest: str) -> LoadedGenerator:
        """The run's generator as it is now.

        Args:
            digest: of the generator that the page has, the query's `generator`; empty if the query has none.

        Raises:
            HTTPException: 409 if that is another one, because training has replaced it since.
        """
        generator = self._context.generator()
        if digest and digest != generator.digest:
            raise HTTPException(409, "the run has newer weights: reload the page to see them")
        return generator

    def _find_nearest(self, z: NDArray[np.float32], digest: str) -> dict[str, Any]:
        generator = self._current_generator(digest)
        if len(z) != generator.latent_size:
            raise UserError(f"a latent vector has {generator.latent_size} values, not {len(z)}")
        images, distances = self._training_images().nearest(generator.images(z[None])[0])
        return {
            "faces": [
                {"image": data_url(image), "distance": float(distance)}
                for image, distance in zip(images, distances, strict=True)
            ]
        }

    def _training_images(self) -> TrainingImages:
        if self._photos is None:
            from gan.config import read_info
            from gan.metrics.nearest import TrainingImages
            from gan.metrics.references import load_reference

            generator = self._context.generator()
            if generator.is_file:
                raise UserError("an exported generator does not name its training images")
            info = read_info(generator.run)
            # In this process, as a run may be training on the other cores.
            info = replace(info, settings=replace(info.settings, workers=0))
            faces = load_reference(info, None).faces
            self._photos = TrainingImages.of(faces.images, faces.train)
        return self._photos


def _digest(request: Request) -> str:
    return request.query_params.get("generator", "")


def _has_training_images(run: Path | None) -> bool:
    if run is None or not run.is_dir():
        return False
    folder = read_config(run)["data"].get("folder")
    return isinstance(folder, str) and Path(folder).exists()
