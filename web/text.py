"""Latent vectors and images as text, in requests and answers."""

from __future__ import annotations

import base64
import binascii
import io
import json

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import UserError
from engine.png import to_pillow

MAX_QUESTION = 2**20
"""Bytes of a request with a latent vector."""


def encode_vector(z: NDArray[np.float32]) -> str:
    """A vector, float32 [size], as base64url of its values."""
    return base64.urlsafe_b64encode(z.astype("<f4").tobytes()).decode().rstrip("=")


def decode_vector(body: bytes) -> NDArray[np.float32]:
    """The latent vector of a request, float32 [size]: JSON with the text of `encode_vector` as `z`.

    Raises:
        UserError: it is not one.
    """
    try:
        if len(body) > MAX_QUESTION:
            raise ValueError
        text = json.loads(body)["z"]
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
        z = np.frombuffer(data, "<f4").astype(np.float32)
        if not len(z) or not np.isfinite(z).all():
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise UserError("the request has no latent vector") from None
    return z


def data_url(image: NDArray[np.uint8] | Image.Image, form: str = "PNG", **options: object) -> str:
    """An image as a data URL.

    Args:
        image: uint8 [3, H, W], or one of Pillow.
        form: the file format, a name of Pillow.
        options: for the format, such as `quality`.
    """
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else to_pillow(image)
    picture.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
