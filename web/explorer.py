"""Routes of the explorer page."""

from __future__ import annotations

from starlette.routing import BaseRoute

from web.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """The routes of the explorer page, below /api/explorer/.

    Args:
        context: What the pages share. `context.generator()` is the run's generator.
    """
    return []
