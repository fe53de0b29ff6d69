"""Pages in HTML: templates that escape all text that they are given, and one style sheet for all.

A page is one file, which asks for nothing else: its style sheet and its pictures are part of it.
"""

import base64
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from videomae.run.text import escaped


@cache
def environment(package: str) -> Environment:
    """Return the templates of a package, which may include `style.css`, the style of all pages,
    and use the filter `breakable`."""
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("videomae.pictures")]),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["breakable"] = breakable
    return templates


def _printable(value: Any) -> Any:
    """Return a value for the template, with control characters of a text as escapes.

    Markup, which is made by this package, does not change.
    """
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def breakable(text: str) -> Markup:
    """Return a text as HTML, escaped, in which a line may break after each slash of a path."""
    return Markup("/<wbr>").join(escaped(text).split("/"))


def data_uri(content: bytes, kind: str) -> Markup:
    """Return a picture as a data URI.

    Args:
        kind: image format, such as png.
    """
    return Markup("data:image/{};base64,{}").format(kind, base64.b64encode(content).decode())
