"""Routes of the training page."""

from __future__ import annotations

from starlette.routing import BaseRoute

from web.context import Context


def routes(context: Context) -> list[BaseRoute]:
    """The routes of the training page, below /api/training/.

    Args:
        context: What the pages share.
    """
    return []
