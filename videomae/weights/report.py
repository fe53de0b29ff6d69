"""The report on weights that were loaded into a model: which tensors were, and which were not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

PRETRAINING = {
    "decoder": ("decoder.", "encoder_to_decoder.", "mask_token"),
    "last norm": ("norm.weight", "norm.bias"),
}
"""Parts of a pre-training model that a classifier does not have, and the beginnings of their
tensors' names; in place of the norm after the encoder it has its fc_norm."""


@dataclass(frozen=True)
class LoadReport:
    """The names of the tensors that were loaded, were missing, or were left over."""

    loaded: list[str]
    """Tensors that were copied from the file to the model."""
    missing: list[str]
    """Tensors of the model that the file lacks: they keep their initial values."""
    unexpected: list[str]
    """Tensors of the file that the model lacks: they are ignored."""
    notes: tuple[str, ...] = ()
    """Lines of text on what was assumed or changed."""
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    """Tensors of the file that a model of this kind does not have, by the part of a pre-training
    model that they are."""

    def __str__(self) -> str:
        counts = (
            f"{len(self.loaded)} tensors loaded; missing: {some_names(self.missing)}; "
            f"unexpected: {some_names(self.unexpected)}"
        )
        parts = [f"{part} left out ({len(names)} tensors)" for part, names in self.left_out.items()]
        return "; ".join((counts, *parts, *self.notes))

    def without_pretraining(self) -> "LoadReport":
        """Return the report with the parts of a pre-training model told apart from what is
        unexpected."""
        found = {
            part: [name for name in self.unexpected if name.startswith(names)]
            for part, names in PRETRAINING.items()
        }
        known = {name for names in found.values() for name in names}
        unexpected = [name for name in self.unexpected if name not in known]
        left_out = {part: names for part, names in found.items() if names}
        return replace(self, unexpected=unexpected, left_out=left_out)


def some_names(names: Sequence[str], most: int = 6) -> str:
    """Return the first few names of a list as text for a message."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "none"
