"""Stage select: which clips the rules keep, and every reason against each of the others.

The decision is a function of the table and the rules alone. A clip that no rule drops, but of which
a rule needs a score that was not measured, is undecided: `keep` is null, and the reason says so.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import CurateConfig, RulesConfig, Scenes, Unmeasured
from videomae.curate import rules as bounds
from videomae.curate.table import (
    MODELS,
    SELECT,
    numbers,
    read_clips_table,
    table_hash,
    write_stage,
)
from videomae.run.console import Facts
from videomae.run.files import write_text

logger = logging.getLogger(__name__)

NOT_MEASURED = ":not_measured"
"""End of a reason that says that the score was not measured."""
NO_PERSON = "no_person"
"""Reason of rules.persons."""
DUPLICATE = "duplicate"
"""Reason of rules.duplicates."""
PERSONS = "person_frames_fraction"
"""Column that rules.persons goes by."""
NO_DETECTOR = (
    "rules.persons does not count, so that clips without people are kept: no detector has looked "
    "at them; run stage=persons with persons.weights=, persons.detector= or persons.detections=, "
    "and then stage=select again"
)
FROM_MODELS = {*MODELS, "cluster"}
"""Columns that stages persons, text and embed fill."""
Flags = NDArray[np.bool_]


def select_clips(config: CurateConfig, out: Path) -> None:
    """Write the decision about every clip, and rules_used.yaml.

    Raises:
        ConfigError: a rule is for a column that is not there.
    """
    table = read_clips_table(out)
    of_table = table_hash(out)
    frozen = bounds.read_frozen(out)
    among = _is_valid(table) & _in_scenes(table, config.scenes)
    rules = bounds.resolved(config.rules, table, among, frozen)
    rules = [
        each if each.quantile is None else replace(each, frozen_from=each.frozen_from or of_table)
        for each in rules
    ]
    decision = decide(table, rules, config.rules, config.scenes)
    rules_hash = bounds.hash_of(rules, config.rules, config.scenes.value)
    counts = decision.counts()
    facts = {
        "table_hash": of_table,
        "rules_hash": rules_hash,
        "scenes": config.scenes.value,
        "unmeasured": config.rules.unmeasured.value,
        "num_clips": table.num_rows,
        "num_kept": int(decision.kept.sum()),
        "num_undecided": int(decision.undecided.sum()),
    }
    write_text(out / bounds.USED, bounds.as_yaml(facts, rules, counts))
    columns = {
        "clip_id": table["clip_id"],
        "keep": decision.keep_column(),
        "reasons": decision.reasons_column(),
        "rules_hash": pa.array([rules_hash], pa.string()).take(
            pa.array(np.zeros(table.num_rows, np.int64))
        ),
    }
    write_stage(out, SELECT, pa.table(columns))
    for rule in rules:
        if rule.quantile is not None and rule.frozen_from != of_table:
            logger.info(
                f"{rule.name}: the quantile {rule.quantile:.1%} stays frozen at "
                f"{rule.threshold:g}, of an earlier table; rules.freeze_again=true computes it anew"
            )
    _print_summary(out, table.num_rows, decision, counts, config.rules.unmeasured)
    if config.rules.persons and not _is_filled(table, PERSONS):
        logger.warning(NO_DETECTOR)


def dropped_before_models(config: CurateConfig, out: Path, table: Any) -> Flags:
    """Return which clips the rules drop whatever a model would say of them.

    Nothing is written: a quantile that rules_used.yaml does not have yet is not frozen.

    Raises:
        ConfigError: a rule is for a column that is not there.
    """
    of_models: dict[str, Any] = {
        name: None for name, (column, _) in bounds.BOUNDS.items() if column in FROM_MODELS
    }
    limits = {name: each for name, each in config.rules.limits.items() if name not in FROM_MODELS}
    before = replace(
        config.rules,
        limits=limits,
        persons=False,
        duplicates=False,
        contaminated=False,
        unmeasured=Unmeasured.undecided,
        **of_models,
    )
    among = _is_valid(table) & _in_scenes(table, config.scenes)
    rules = bounds.resolved(before, table, among, bounds.read_frozen(out))
    return decide(table, rules, before, config.scenes).dropped


def dropped_by_select(table: Any) -> Flags:
    """Return which clips the last stage=select dropped for a reason that no model has given."""
    ours = {name for name, (column, _) in bounds.BOUNDS.items() if column in FROM_MODELS}
    ours |= {f"{column}_{end}" for column in FROM_MODELS for end in ("min", "max")}
    others = [
        any(
            not each.endswith(NOT_MEASURED)
            for each in {*(reasons or ())} - ours - {NO_PERSON, DUPLICATE}
        )
        for reasons in table["reasons"].to_pylist()
    ]
    return np.array(others, bool) & _flags(pc.invert(table["keep"]))


@dataclass(frozen=True)
class Decision:
    """A decision about every clip: the reasons against each, and which are not measured."""

    against: dict[str, Flags]
    """By reason: the clips that it drops."""
    unknown: dict[str, Flags]
    """By reason: the clips that it leaves undecided, as the score was not measured."""
    num_clips: int

    @property
    def dropped(self) -> Flags:
        """Clips that some reason drops."""
        return self._any(self.against)

    @property
    def undecided(self) -> Flags:
        """Clips that nothing drops, but of which a score is missing."""
        return self._any(self.unknown) & ~self.dropped

    @property
    def kept(self) -> Flags:
        """Clips that are kept."""
        return ~self.dropped & ~self.undecided

    def _any(self, flags: Mapping[str, Flags]) -> Flags:
        found = np.zeros(self.num_clips, bool)
        for each in flags.values():
            found |= each
        return found

    def counts(self) -> dict[str, dict[str, int]]:
        """Return by reason how many clips it dropped, how many it alone dropped, and of how many
        that nothing drops the score was not measured."""
        number = sum((each.astype(np.int64) for each in self.against.values()), start=0)
        left = ~self.dropped
        return {
            name: {
                "dropped": int(flags.sum()),
                "alone": int((flags & (number == 1)).sum()),
                "not_measured": int((self.unknown[name] & left).sum())
                if name in self.unknown
                else 0,
            }
            for name, flags in self.against.items()
        }

    def keep_column(self) -> Any:
        """Return the column keep: null where the clip is undecided."""
        return pa.array(self.kept, pa.bool_(), mask=self.undecided)

    def reasons_column(self) -> Any:
        """Return the column reasons: a list of the names of all reasons of each clip."""
        flags = self.against | {
            f"{name}{NOT_MEASURED}": each for name, each in self.unknown.items()
        }
        names = [name for name, each in flags.items() if each.any()]
        if not names:
            offsets = np.zeros(self.num_clips + 1, np.int32)
            return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()))
        matrix = np.stack([flags[name] for name in names], axis=1)
        offsets = np.concatenate([[0], np.cumsum(matrix.sum(1))]).astype(np.int32)
        which = pa.array(np.nonzero(matrix)[1])
        return pa.ListArray.from_arrays(offsets, pa.array(names, pa.string()).take(which))


def decide(table: Any, rules: list[bounds.Rule], config: RulesConfig, scenes: Scenes) -> Decision:
    """Return the decision of rules about every clip of a table."""
    decision = Decision({"error": ~_is_valid(table)}, {}, table.num_rows)
    against, errors = decision.against, decision.against["error"]
    if scenes is Scenes.longest:
        against["not_longest"] = ~_in_scenes(table, scenes) & ~errors

    def judge(name: str, drops: Flags, missing: Flags) -> None:
        missing = missing & ~errors
        if config.unmeasured is Unmeasured.drop:
            drops = drops | missing
        elif config.unmeasured is Unmeasured.undecided:
            decision.unknown[name] = missing
        against[name] = drops

    for rule in rules:
        values = bounds.numeric(table, rule.column)
        judge(rule.name, rule.drops(values), np.isnan(values))
    if config.persons and _is_filled(table, PERSONS):
        seen = bounds.numeric(table, PERSONS)
        judge(NO_PERSON, seen == 0, np.isnan(seen))
    if config.contaminated and _has_run(table, "contaminates", "contaminated"):
        column = table["contaminates"]
        shows = _flags(pc.greater(pc.list_value_length(column), 0))
        judge("contaminates", shows, _flags(pc.is_null(column)))
    if config.licences is not None:
        allowed = pa.array(config.licences, pa.string())
        against["licence"] = ~_flags(pc.is_in(table["licence"], value_set=allowed))
    if config.duplicates and _has_run(table, "duplicate_group", "duplicates"):
        missing = _flags(pc.is_null(table["duplicate_group"]))
        judge(DUPLICATE, _copies(table, decision), missing)
    return decision


def _copies(table: Any, decision: Decision) -> Flags:
    """Return which clips are copies of a better one.

    The best of a group is the one with the most pixels, then the sharpest, then the first, among
    those that nothing else drops, or leaves undecided, if there are any: a copy does not go because
    of a clip that goes, too.
    """
    of_copies = table["duplicate_group"].filter(pc.is_valid(table["duplicate_of"]))
    places = pc.index_in(table["duplicate_group"], value_set=pc.unique(of_copies))
    group = pc.fill_null(places, -1).to_numpy()
    rows = np.flatnonzero(group >= 0)
    pixels = numbers(table["width_px"]) * numbers(table["height_px"])
    sharpness = np.nan_to_num(numbers(table["sharpness"]), nan=-np.inf)
    gone = 2 * decision.dropped + decision.undecided
    order = np.lexsort(
        (rows, -sharpness[rows], -np.nan_to_num(pixels[rows]), gone[rows], group[rows])
    )
    ordered = rows[order]
    first = ordered[np.flatnonzero(np.diff(group[ordered], prepend=-1))]
    copies = np.zeros(table.num_rows, bool)
    copies[rows] = True
    copies[first] = False
    return copies


def _is_filled(table: Any, column: str) -> bool:
    """Return whether the stage that fills a column has run."""
    return table.num_rows == 0 or table[column].null_count < table.num_rows


def _has_run(table: Any, column: str, rule: str) -> bool:
    """Return whether the stage that fills a column has run; say so if it has not."""
    if _is_filled(table, column):
        return True
    logger.warning(f"rules.{rule} does not count: the stage that fills {column} has not run")
    return False


def _is_valid(table: Any) -> Flags:
    """Return which clips have no error."""
    return _flags(pc.is_null(table["error"]))


def _in_scenes(table: Any, scenes: Scenes) -> Flags:
    """Return which clips can be kept: with scenes=longest, the longest scene of each video.

    Pieces of a fixed duration, which are no scenes, all can.
    """
    if scenes is Scenes.longest:
        return _flags(pc.fill_null(table["is_longest"], True))
    return np.ones(table.num_rows, bool)


def _flags(column: Any) -> Flags:
    found: Flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return found


def _print_summary(
    out: Path,
    num_clips: int,
    decision: Decision,
    counts: Mapping[str, Mapping[str, int]],
    unmeasured: Unmeasured,
) -> None:
    kept, undecided = int(decision.kept.sum()), int(decision.undecided.sum())
    rows = [
        ("clips", f"{num_clips:,}", ""),
        ("kept", f"{kept:,}", ""),
        ("dropped", f"{int(decision.dropped.sum()):,}", ""),
        ("undecided", f"{undecided:,}", "a rule needs a score that was not measured"),
    ]
    for name, each in counts.items():
        more = f"{each['alone']:,} by it alone"
        if each["not_measured"]:
            more += f"; {each['not_measured']:,} not measured"
        rows.append((f"  {name}", f"{each['dropped']:,}", more))
    logger.info(Facts(f"{out / bounds.USED}", rows))
    for name, each in counts.items():
        if num_clips and each["dropped"] == num_clips:
            logger.warning(f"{name} drops every clip: look at its threshold in {bounds.USED}")
        if num_clips and each["not_measured"] and not kept:
            logger.warning(
                f"{name}: not measured of {each['not_measured']:,} clips, which are "
                f"{bounds.counts_when_unmeasured(unmeasured)}: run the stage that measures it, or "
                f"switch the rule off"
            )
    if num_clips and not kept:
        logger.warning("no clip is kept")
