"""What a run has found fastest on its devices, kept so that a restart computes as it did before.

Implementations differ in rounding: a run that goes on is the same only if it takes the same ones.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from videomae.run.files import write_text
from videomae.run.parallel import Processes

T = TypeVar("T")

TIE = 1.02
"""Times that differ by less are the same: one more measurement may turn them round."""


@dataclass
class Choices:
    """By what was asked, in words that name the device and torch: the answer's name."""

    made: dict[str, str] = field(default_factory=dict)

    def choose(
        self,
        question: str,
        options: Mapping[str, T],
        measure: Callable[[], Mapping[str, float]],
        processes: Processes,
    ) -> tuple[T | None, str]:
        """The option that was taken before, or else the fastest; and what to say of it. The main
        process decides for all; each must call it.

        Args:
            options: by name, the plainest first: it is taken where no other is clearly faster.
            measure: seconds of those that the device can do, by name.

        Returns:
            None for an option: the device can do none of them.
        """
        asked = f"{question}, {hardware(processes.device)}"
        times: Mapping[str, float] = {}
        name = None
        if processes.is_main:
            name = self.made.get(asked)
            if name not in options:
                times = measure()
                good = TIE * min(times.values(), default=0.0)
                name = next((each for each in options if times.get(each, good + 1) <= good), None)
        name, times = processes.from_main((name, dict(times)))
        if name is None:
            return None, ""
        self.made[asked] = name
        took = "; ".join(f"{each} {1e3 * seconds:.3g} ms" for each, seconds in times.items())
        return options[name], f"{question}: {name}" + (f" ({took})" if took else ", as before")

    def write(self, path: Path) -> None:
        """As `read_choices` reads it."""
        write_text(path, json.dumps(self.made, indent=1) + "\n")


def is_choices(found: Mapping[str, object]) -> bool:
    """Whether that is what `write` writes."""
    return all(isinstance(name, str) for name in found.values())


def hardware(device: torch.device) -> str:
    """What decides how fast something is, and how it is rounded."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__}"
