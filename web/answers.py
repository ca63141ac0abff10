"""JSON answers that any values can be put into. Nothing here imports torch."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import JSONResponse


class Json(JSONResponse):
    """An answer in JSON, see `to_json`."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return to_json(content).encode("ascii")


def to_json(values: Any) -> str:
    """Values as JSON that every browser can parse, in ASCII.

    NaN and infinity, which JSON does not have, become null. A part of a name that is no valid Unicode stays
    escaped, as UTF-8 cannot encode it.
    """
    try:
        return json.dumps(values, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(values), separators=(",", ":"))


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
