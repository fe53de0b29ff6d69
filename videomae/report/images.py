"""Small pictures as data URIs, which are part of the page itself."""

import io

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from videomae.pictures.html import data_uri


def confusion_picture(counts: NDArray[np.int64]) -> Markup:
    """Return a confusion matrix as a PNG: row = true class, column = predicted class.

    Each entry is a pixel, more opaque the larger its share of the row, for any background.

    Args:
        counts: (classes, columns) int64, numbers of videos.
    """
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    pixels = np.zeros((*share.shape, 4), dtype=np.uint8)
    pixels[..., :3] = (44, 123, 229)
    pixels[..., 3] = (255 * np.sqrt(share)).round()  # a root, so that rare mistakes are seen
    return data_uri(_encoded(Image.fromarray(pixels), "PNG"), "png")


def thumbnail(frame: NDArray[np.uint8], height: int) -> Markup:
    """Return a frame, (H, W, 3) uint8, as a JPEG of a height in pixels."""
    image = Image.fromarray(frame)
    width = max(1, round(image.width * height / image.height))
    return data_uri(_encoded(image.resize((width, height)), "JPEG"), "jpeg")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85)
    return buffer.getvalue()
