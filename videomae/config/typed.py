"""A check of the values that an untrusted file gave to a dataclass against the types of its
fields."""

import math
import reprlib
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

LARGEST = 2**53
"""Largest whole number that is accepted in a file of settings."""


def check_types(config: object) -> None:
    """Check the types of a dataclass's values, which were read from a file.

    Raises:
        ValueError: a value has another type than its field, or is an infinite or too large number;
            the error names the first.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = {get_origin(kind) or kind: get_args(kind) for kind in hints}
        right = type(value) in kinds or (float in kinds and type(value) is int)
        if right and isinstance(value, list):
            right = all(type(entry) in kinds[list] for entry in value)
        if right and isinstance(value, float):
            right = math.isfinite(value)
        if right and isinstance(value, int):
            right = abs(value) <= LARGEST
        if not right:
            raise ValueError(f"{name}={reprlib.repr(value)}")
