"""Rows of a text and some whole numbers, in memory that processes share."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]
KINDS = (np.int8, np.int16, np.int32, np.int64)
NONE = -(10**18)
"""Number that stands for None in a column: no list can hold so low a one."""


class Columns:
    """So many rows, column by column: some bytes each, where Python's objects take hundreds.

    The columns are tensors. A forked process shares their memory; to one that is started in another
    way torch hands them as shared memory, into which it moves them the first time. So there is one
    copy, whatever the processes. As it may move, no NumPy or Arrow view of it is kept.

    Args:
        data: the texts end to end, uint8 of UTF-8.
        offsets: where each begins, and where the last ends: (rows + 1,) int64.
        numbers: (rows,) each, whole numbers of any width.
    """

    def __init__(self, data: Tensor, offsets: Tensor, numbers: Mapping[str, Tensor]) -> None:
        self.data = data
        self.offsets = offsets
        self.numbers = dict(numbers)

    @classmethod
    def of(cls, texts: Any, numbers: Mapping[str, Integers]) -> "Columns":
        """A copy of these.

        Args:
            texts: an Arrow array of large_string.
        """
        _, places, data = texts.buffers()
        offsets = np.frombuffer(places, np.int64)[texts.offset :][: len(texts) + 1]
        data = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
        columns = {name: _narrow(values) for name, values in numbers.items()}
        return cls(torch.from_numpy(data.copy()), torch.from_numpy(offsets - offsets[0]), columns)

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """The rows of all parts, which have the same columns, one part after the other."""
        starts = np.cumsum([0, *(len(part.data) for part in parts)])
        offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
        return cls(
            torch.cat([part.data for part in parts]),
            torch.cat([*offsets, torch.tensor(starts[-1:])]),
            {name: _joined([part.numbers[name] for part in parts]) for name in parts[0].numbers},
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of memory they take."""
        tensors = (self.data, self.offsets, *self.numbers.values())
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def rows(self, first: int, last: int) -> list[tuple[Any, ...]]:
        """(text, *numbers) of each row from `first` up to `last`, which is left out."""
        offsets = self.offsets[first : last + 1].tolist()
        data = self.data[offsets[0] : offsets[-1]].numpy().tobytes()
        texts = [data[a - offsets[0] : b - offsets[0]].decode() for a, b in pairwise(offsets)]
        numbers = (column[first:last].tolist() for column in self.numbers.values())
        return list(zip(texts, *numbers, strict=True))

    def number(self, name: str) -> Integers:
        """A copy of one column of numbers."""
        return self.numbers[name].numpy().astype(np.int64)

    def with_number(self, name: str, values: Integers) -> "Columns":
        """Return the rows with this column of numbers in place of the present one."""
        return Columns(self.data, self.offsets, self.numbers | {name: _narrow(values)})

    def texts(self) -> Any:
        """The texts as an Arrow array of large_string, a view that must not be kept."""
        buffers = [None, pa.py_buffer(self.offsets.numpy()), pa.py_buffer(self.data.numpy())]
        return pa.Array.from_buffers(pa.large_string(), len(self), buffers)

    def take(self, places: Integers) -> "Columns":
        """A copy of the rows at these places, in this order."""
        numbers = {name: self.numbers[name].numpy()[places] for name in self.numbers}
        return Columns.of(self.texts().take(pa.array(places)), numbers)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """One column of the parts of a column; one number throughout stays the one that is kept."""
    filled = [part for part in parts if len(part)]
    values = {int(part[0]) for part in filled if part.stride() == (0,)}
    if len(values) == 1 and all(part.stride() == (0,) for part in filled):
        return filled[0][:1].expand(sum(map(len, filled)))
    return _narrow(np.concatenate([part.numpy().astype(np.int64) for part in parts]))


def _narrow(values: NDArray[Any]) -> Tensor:
    """A copy in as few bytes as will do; one number throughout is kept once."""
    if (values == values[:1]).all():
        return torch.from_numpy(values[:1].copy()).expand(len(values))
    low, high = values.min(), values.max()
    kind = next(k for k in KINDS if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return torch.from_numpy(values.astype(kind))
