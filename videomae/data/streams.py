"""Random streams that depend only on the seed, their purpose and a key such as the step."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purposes of random numbers, each an independent stream; changing a value changes old runs."""

    order = 0
    window = 1
    view = 2
    mix = 3


def random_stream(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Return the generator of one purpose and key, independent of all earlier draws."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream, *key]))
