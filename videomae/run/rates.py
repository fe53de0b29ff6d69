"""Learning rate schedules as pure functions of the step."""

import math


def warmup_cosine(step: int, *, peak: float, floor: float, warmup: int, total: int) -> float:
    """Return the rate at 0-based `step`: linear from 0 to `peak`, then half a cosine towards
    `floor`.

    The first step is at rate 0 and the last one just above `floor`, as in VideoMAE V1 and V2.
    """
    if step < warmup:
        return peak * step / max(1, warmup - 1)
    progress = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
