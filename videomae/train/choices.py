"""The implementations that a run measured as fastest, kept so that a restart uses the same ones.

Implementations differ in rounding: a resumed run is bit-exact only with the same ones.
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
"""Ratio of two times up to which they count as equal, as measurements vary by as much."""


@dataclass
class Choices:
    """The chosen implementation for each question, such as the attention of one model part."""

    made: dict[str, str] = field(default_factory=dict)
    """Name of the chosen option by the question, whose text names the device and torch."""

    def choose(
        self,
        question: str,
        options: Mapping[str, T],
        measure: Callable[[], Mapping[str, float]],
        processes: Processes,
    ) -> tuple[T | None, str]:
        """Choose the option of an earlier run, or else the fastest one, on all processes alike.

        The main process decides for all; each process must call this.

        Args:
            question: text that identifies the choice.
            options: the options by name, the simplest first: it wins unless another is faster.
            measure: returns the seconds by name of the options that the device supports.

        Returns:
            the option, and a line of text that reports it. None: the device supports no option.
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
        """Write the choices to a JSON file."""
        write_text(path, json.dumps(self.made, indent=1) + "\n")


def is_choices(found: Mapping[str, object]) -> bool:
    """Tell whether a JSON object has the form that `Choices.write` writes."""
    return all(isinstance(name, str) for name in found.values())


def hardware(device: torch.device) -> str:
    """Name the device and the torch version, which determine speed and rounding."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__}"
