"""Routes of the training page: the runs, their settings, sample grids and curves, also while they train."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from engine.lock import is_locked
from engine.png import to_pillow
from engine.runs import checkpoints, sample_grids, sample_path, step_of
from lab.kinds import KINDS
from web.answers import Json, to_json
from web.context import Context
from web.library import Library, read_config, read_file
from web.progress import Progress, list_samples
from web.strip import make_strip, read_shape

POLL_SECONDS = 0.5
"""Time between looks at a run's files."""
SILENCE_SECONDS = 15.0
"""Time after which a stream says that it is still there."""
MAX_STREAMED = 6
"""Runs of one stream: the one that is shown, and others to compare."""
MAX_STRIP = 64
"""Steps of a strip."""
MAX_TILE = 2048
"""Side in pixels of the images of a run whose tiles are shown."""
UNCHANGING = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Headers of answers whose URLs contain a version."""


def routes(context: Context) -> list[BaseRoute]:
    """The routes of the training page, below /api/training/.

    Args:
        context: what the pages share.
    """
    pages = _Training(context, Library(context.output, context.run))
    return [
        Route("/api/training/runs", pages.runs),
        Route("/api/training/run", pages.run),
        Route("/api/training/stream", pages.stream),
        Route("/api/training/sample", pages.sample),
        Route("/api/training/real", pages.real),
        Route("/api/training/strip", pages.strip),
    ]


class _Training:
    def __init__(self, context: Context, library: Library) -> None:
        self._context, self._library = context, library

    async def runs(self, request: Request) -> Response:
        """All runs, the newest first of each folder, and which one to show."""
        return Json(await anyio.to_thread.run_sync(self._list))

    def _list(self) -> dict[str, object]:
        runs = [
            {"name": name, "kind": read_config(run)["kind"], "running": is_locked(run), "step": _step(run)}
            for name, run in self._library.names().items()
        ]
        running = [run["name"] for run in runs if run["running"]]
        newest = [*running, *(run["name"] for run in runs)]
        shown = self._library.name_of_given() or next(iter(newest), None)
        return {"runs": runs, "shown": shown, "output": str(self._context.output)}

    async def run(self, request: Request) -> Response:
        """What does not change while a run trains: its kind, settings, data, environment and panels."""
        run = await self._find(request)
        return Json(await anyio.to_thread.run_sync(_describe, run))

    async def stream(self, request: Request) -> Response:
        """Server-sent events with what the runs of the query have logged: all at first, then what is new."""
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 1 <= len(names) <= MAX_STREAMED:
            raise HTTPException(400, f"1 to {MAX_STREAMED} runs can be followed at once")
        found = await anyio.to_thread.run_sync(lambda: [self._library.find(name) for name in names])
        followed = {name: Progress(run) for name, run in zip(names, found, strict=True)}
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._follow(followed), media_type="text/event-stream", headers=headers)

    async def _follow(self, followed: dict[str, Progress]) -> AsyncIterator[str]:
        sent: dict[str, object] = {}
        silent = 0.0
        yield "retry: 1000\n\n"
        while not self._context.closing.is_set():
            silent += POLL_SECONDS
            for name, progress in followed.items():
                news = await anyio.to_thread.run_sync(progress.poll)
                if not news["reset"] and not news["columns"] and sent.get(name) == _lasting(news["status"]):
                    continue
                sent[name], silent = _lasting(news["status"]), 0.0
                yield f"data: {to_json({'run': name, **news})}\n\n"
            if silent >= SILENCE_SECONDS:
                silent = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(POLL_SECONDS)

    async def sample(self, request: Request) -> Response:
        """A sample grid."""
        run, step = await self._find(request), _whole(request, "step", 10**12)
        content = await anyio.to_thread.run_sync(read_file, run, sample_path(run, step))
        return Response(content, media_type="image/png", headers=UNCHANGING)

    async def real(self, request: Request) -> Response:
        """The grid of images that the run learns from."""
        run = await self._find(request)
        content = await anyio.to_thread.run_sync(read_file, run, run / "real.png")
        return Response(content, media_type="image/png", headers={"Cache-Control": "no-cache"})

    async def strip(self, request: Request) -> Response:
        """One tile at the steps of the query, side by side."""
        run, index = await self._find(request), _whole(request, "tile", 10**6)
        steps = request.query_params.getlist("step")
        if not 1 <= len(steps) <= MAX_STRIP:
            raise HTTPException(400, f"a strip has 1 to {MAX_STRIP} steps")
        return Response(
            await self._context.compute(_strip, run, index, steps), media_type="image/png", headers=UNCHANGING
        )

    async def _find(self, request: Request) -> Path:
        name = request.query_params.get("run", "")
        return await anyio.to_thread.run_sync(self._library.find, name)


def _describe(run: Path) -> dict[str, object]:
    config = read_config(run)
    kind = KINDS.get(config["kind"])
    grids = sample_grids(run)
    size = _tile_size(config)
    shape = read_shape(grids[-1], size) if grids and size else None
    return {
        **config,
        "panels": [
            {"title": title, "curves": [{"metric": name, "label": label} for name, label in curves.items()]}
            for title, curves in (kind.panels if kind else ())
        ],
        "grid": {"rows": shape[0], "columns": shape[1], "size": size} if shape else None,
        "has_real": (run / "real.png").is_file(),
    }


def _strip(run: Path, index: int, steps: list[str]) -> bytes:
    versions = dict(list_samples(run))
    wanted = [int(step) for step in steps if step.isascii() and step.isdecimal() and len(step) < 13]
    grids = [(sample_path(run, step), versions[step]) for step in wanted if step in versions]
    size, inside = _tile_size(read_config(run)), run.resolve()
    if not grids or size is None:
        raise HTTPException(404, "the run has no such sample grids")
    if not all(path.resolve().is_relative_to(inside) for path, _ in grids):
        raise HTTPException(404, "there is no such file in the run")
    buffer = io.BytesIO()
    to_pillow(make_strip(grids, size, index)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _tile_size(config: dict[str, Any]) -> int | None:
    """The side in pixels of a tile in a run's sample grids; None if its config.json is damaged."""
    size, kind = config["settings"].get("image_size"), KINDS.get(config["kind"])
    if not isinstance(size, int) or not 1 <= size <= MAX_TILE or kind is None:
        return None
    return kind.picture_scale * size


def _lasting(status: dict[str, object]) -> dict[str, object]:
    """A status without what changes all the time."""
    return {name: value for name, value in status.items() if name != "seconds_left"}


def _step(run: Path) -> int:
    return max((step_of(path) for path in [*checkpoints(run), *sample_grids(run)]), default=0)


def _whole(request: Request, name: str, limit: int) -> int:
    """A whole number of the query. Raises `HTTPException` 400 if it is missing, or not below `limit`."""
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) < limit):
        raise HTTPException(400, f"{name} must be a whole number")
    return int(text)
