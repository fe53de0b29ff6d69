"""The table of clips as its page shows it: rows by reason, by decision and by threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import ConfigError
from videomae.curate.rules import Rule, numeric, read_frozen, used_facts
from videomae.curate.selection import NOT_MEASURED
from videomae.curate.sources import read_sources
from videomae.curate.table import (
    SELECT,
    read_clips_table,
    stage_file,
    table_hash,
    without_forgotten,
)
from videomae.curate.tombstones import CorpusTombstones

FIRST = ("error", "not_longest")
"""Reasons that come before those of the rules."""
LAST = ("duplicate", "contaminates", "licence")
"""Reasons that come behind them."""
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Corpus:
    """The clips, the files that they come from, and the decision about them."""

    name: str
    table: Any
    """clips.parquet, sorted by clip_id. An id is a hash, so that the first of some clips are drawn
    at random."""
    sources: Any
    """The column copy_of of sources.parquet."""
    rules: Mapping[str, Rule]
    """Rules with a threshold by their name, in their order."""
    rules_hash: str
    changed: bool
    """Whether the table has changed since stage select judged it."""

    @classmethod
    def read(cls, out: Path) -> "Corpus":
        """Read the table and the rules of an output directory.

        Raises:
            ConfigError: stage select has not judged the table, or was stopped.
        """
        sources = read_sources(out).select(["copy_of"])
        table = without_forgotten(read_clips_table(out), CorpusTombstones.read(out))
        used = used_facts(out)
        if not stage_file(out, SELECT).exists() or not used:
            raise ConfigError(
                f"{out} has no decision about its clips: run stage=select first (rules=none keeps "
                "all that can be read)"
            )
        rules_hash = str(used.get("rules_hash"))
        hashes = set(pc.unique(table["rules_hash"]).to_pylist()) - {None}
        if hashes - {rules_hash}:
            raise ConfigError(
                f"rules_used.yaml in {out} is not of the decision in clips.parquet: run "
                "stage=select again"
            )
        changed = used.get("table_hash") != table_hash(out)
        name = out.resolve().name
        return cls(name, table, sources, read_frozen(out), rules_hash, changed)

    @property
    def num_clips(self) -> int:
        """Number of rows of the table."""
        return int(self.table.num_rows)

    @cached_property
    def by_reason(self) -> dict[str, Rows]:
        """Rows of each reason that occurs, ascending; reasons in the order in which they count."""
        lists = self.table["reasons"].combine_chunks()
        names = pc.list_flatten(lists).dictionary_encode()
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        codes = names.indices.to_numpy(zero_copy_only=False)
        found = {name: rows[codes == n] for n, name in enumerate(names.dictionary.to_pylist())}
        known = [*FIRST, *self.rules, *LAST]
        missing = (f"{name}{NOT_MEASURED}" for name in known)
        order = {name: number for number, name in enumerate([*known, *missing])}

        def place(name: str) -> tuple[float, str]:
            other = len(order) if is_unmeasured(name) else len(known) - 0.5
            return order.get(name, other), name

        return {name: found[name] for name in sorted(found, key=place)}

    @cached_property
    def dropping(self) -> dict[str, Rows]:
        """Rows of each reason that drops; without the scores that were not measured."""
        some = {name: rows for name, rows in self.by_reason.items() if not is_unmeasured(name)}
        unused = {name: np.zeros(0, np.int64) for name in self.rules if name not in some}
        order = [name for name in (*FIRST, *self.rules) if name in some | unused]
        return {name: (some | unused)[name] for name in order} | some

    @cached_property
    def num_reasons(self) -> NDArray[np.int64]:
        """Number of reasons that drop each clip."""
        found = np.zeros(self.num_clips, np.int64)
        for rows in self.dropping.values():
            found[rows] += 1
        return found

    @cached_property
    def kept(self) -> Flags:
        """Clips that are kept."""
        return _flags(self.table["keep"])

    @cached_property
    def undecided(self) -> Flags:
        """Clips that are judged, and neither kept nor dropped."""
        judged = pc.is_valid(self.table["rules_hash"])
        return _flags(pc.and_(judged, pc.is_null(self.table["keep"])))

    @cached_property
    def contaminated(self) -> Rows:
        """Rows of the clips that show a test video."""
        number = pc.list_value_length(self.table["contaminates"])
        return np.flatnonzero(pc.fill_null(number, 0).to_numpy())

    @cached_property
    def candidates(self) -> Flags:
        """Clips that rules decide about: without an error, and among the scenes asked for."""
        found = _flags(pc.is_valid(self.table["rules_hash"]))
        for name in FIRST:
            found[self.by_reason.get(name, [])] = False
        return found

    def values(self, column: str) -> NDArray[np.float64]:
        """Return a column of numbers, or one that follows from columns; NaN where it is null."""
        found: NDArray[np.float64] = numeric(self.table, column)
        return found

    def flags(self, rows: Rows) -> Flags:
        """Return whether each clip is among some rows."""
        found = np.zeros(self.num_clips, bool)
        found[rows] = True
        return found

    def nearest(self, rule: Rule, number: int) -> tuple[Rows, Rows]:
        """Return the candidates nearest to a threshold: those that the rule drops, and the others.

        Args:
            number: most rows of each; the nearest comes first.
        """
        values = self.values(rule.column)
        with np.errstate(invalid="ignore"):
            distance, drops = np.abs(values - rule.threshold), rule.drops(values)
        known = self.candidates & ~np.isnan(values)
        sides = []
        for side in (known & drops, known & ~drops):
            rows = np.flatnonzero(side)
            if len(rows) > number:
                last = np.partition(distance[rows], number - 1)[number - 1]
                rows = rows[distance[rows] <= last]
            sides.append(rows[np.argsort(distance[rows], kind="stable")][:number])
        return sides[0], sides[1]

    def take(self, columns: Sequence[str], rows: Rows) -> Any:
        """Return columns of some rows as a table."""
        return self.table.select(list(columns)).take(pa.array(rows))


def is_unmeasured(reason: str) -> bool:
    """Return whether a reason says that a score was not measured."""
    return reason.endswith(NOT_MEASURED)


def _flags(column: Any) -> Flags:
    found: Flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return np.array(found, bool)
