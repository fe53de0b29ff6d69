"""Random numbers that depend on the seed and on what they are for, and on nothing else."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Independent streams of random numbers. Numbers of old runs depend on these values."""

    order = 0
    window = 1
    view = 2
    mix = 3


def random_stream(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The random numbers of one purpose at one place, whatever else was drawn before."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream, *key]))
