"""Values that a file of others gave to a dataclass, held against the types of its fields."""

import math
import reprlib
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

LARGEST = 2**53
"""No whole number in a file of settings or of facts is larger."""


def check_types(config: object) -> None:
    """Check the types of a dataclass whose values a file said.

    Raises:
        ValueError: naming the first value that is of another type, or a number without end.
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
