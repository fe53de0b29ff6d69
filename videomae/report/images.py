"""Small pictures as data URIs, which a page holds in itself."""

import base64
import io

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image


def confusion_picture(counts: NDArray[np.int64]) -> Markup:
    """Row = true class, column = predicted class: a PNG with a pixel for each, the more opaque
    the larger its share of the row; so that it lies on any background."""
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    pixels = np.zeros((*share.shape, 4), dtype=np.uint8)
    pixels[..., :3] = (44, 123, 229)
    pixels[..., 3] = (255 * np.sqrt(share)).round()  # a root, so that rare mistakes are seen
    return data_uri(_encoded(Image.fromarray(pixels), "PNG"), "png")


def thumbnail(frame: NDArray[np.uint8], height: int) -> Markup:
    """A frame (H, W, 3) as a small JPEG."""
    image = Image.fromarray(frame)
    width = max(1, round(image.width * height / image.height))
    return data_uri(_encoded(image.resize((width, height)), "JPEG"), "jpeg")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> Markup:
    """A picture inside a page."""
    return Markup("data:image/{};base64,{}").format(kind, base64.b64encode(content).decode())
