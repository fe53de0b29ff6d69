"""Rules of selection: which columns they bound, and thresholds that are quantiles of the table.

A quantile is computed once and kept in rules_used.yaml, so that a table which grows is still judged
by the same numbers. rules.freeze_again=true computes it anew.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray

from videomae.config import ConfigError, RulesConfig, Unmeasured
from videomae.config.curate import QUANTILE
from videomae.curate.table import numbers
from videomae.lists.text_files import NotTextError, short_text

USED = "rules_used.yaml"
MOST_CHARACTERS = 2**22
"""Largest number of characters of rules_used.yaml."""
BOUNDS = {
    "duration_min_s": ("duration_s", True),
    "duration_max_s": ("duration_s", False),
    "short_side_min": ("short_side_px", True),
    "fps_min": ("fps", True),
    "sharpness_min": ("sharpness", True),
    "luma_min": ("luma_mean", True),
    "luma_max": ("luma_mean", False),
    "contrast_min": ("luma_std", True),
    "clipped_max": ("clipped_fraction", False),
    "bars_max": ("bars_fraction", False),
    "motion_min": ("motion_px_per_s", True),
    "motion_max": ("motion_px_per_s", False),
    "frozen_max": ("frozen_fraction", False),
    "text_max": ("text_fraction", False),
    "persons_min": ("person_frames_fraction", True),
    "person_height_min": ("person_max_height", True),
    "views_min": ("views", True),
    "hashtags_min": ("num_hashtags", True),
}
"""Column that each rule bounds, and whether from below."""
DERIVED = {
    "duration_s": ("start_s", "end_s"),
    "short_side_px": ("width_px", "height_px"),
    "num_hashtags": ("hashtags",),
}
"""Numbers that follow from columns of the table, and those columns."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A bound of one column."""

    name: str
    """Name of the rule, which is the reason against a clip that it drops."""
    column: str
    at_least: bool
    """Whether the threshold is the smallest value that is kept, or else the largest."""
    threshold: float
    quantile: float | None = None
    """Share of the measured rows below the threshold, if it is a quantile."""
    frozen_from: str | None = None
    """Hash of the table that the quantile was computed of."""

    def drops(self, values: Numbers) -> NDArray[np.bool_]:
        """Return which values the rule drops; never one that was not measured (NaN)."""
        return values < self.threshold if self.at_least else values > self.threshold


def numeric(table: Any, name: str) -> Numbers:
    """Return a column, or a number that follows from columns, as float64; NaN where it is null.

    Raises:
        ConfigError: there is no such column, or it holds no numbers; the error names the columns.
    """
    if name == "duration_s":
        found: Numbers = numbers(table["end_s"]) - numbers(table["start_s"])
        return found
    if name == "short_side_px":
        return np.minimum(numbers(table["width_px"]), numbers(table["height_px"]))
    if name == "num_hashtags":
        return numbers(pc.list_value_length(table["hashtags"]))
    kind = table.schema.field(name).type if name in table.column_names else None
    if kind is None or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        names = [
            each.name
            for each in table.schema
            if pa.types.is_integer(each.type) or pa.types.is_floating(each.type)
        ]
        what = "there is no column" if kind is None else "no numbers are in column"
        raise ConfigError(f"{what} {name}: rules are for {', '.join([*DERIVED, *names])}")
    return numbers(table[name])


def resolved(
    config: RulesConfig, table: Any, among: NDArray[np.bool_], frozen: Mapping[str, Rule]
) -> list[Rule]:
    """Return the rules of a config with all thresholds as numbers.

    Args:
        among: rows that quantiles are computed of.
        frozen: rules of an earlier call, whose quantiles are taken over.

    Raises:
        ConfigError: a rule is for a column that is not there, or a quantile is of no row.
    """
    asked = [
        (name, *BOUNDS[name], getattr(config, name))
        for name in BOUNDS
        if getattr(config, name) is not None
    ]
    for column, limit in config.limits.items():
        both = ((f"{column}_min", True, limit.at_least), (f"{column}_max", False, limit.at_most))
        asked += [(name, column, low, value) for name, low, value in both if value is not None]
    rules = []
    for name, column, at_least, value in asked:
        values = numeric(table, column)
        if not isinstance(value, str):
            rules.append(Rule(name, column, at_least, float(value)))
            continue
        found = QUANTILE.fullmatch(value)
        assert found is not None  # the config has checked it
        quantile = float(found[1]) / 100
        known = frozen.get(name)
        if known and not config.freeze_again and known.quantile == quantile:
            rules.append(known)
            continue
        measured = values[among & ~np.isnan(values)]
        if not len(measured):
            raise ConfigError(
                f"rules.{name}={value}: no clip has a {column} to compute a quantile of"
            )
        threshold = float(np.quantile(measured, quantile, method="lower"))
        rules.append(Rule(name, column, at_least, threshold, quantile))
    return rules


def hash_of(rules: list[Rule], config: RulesConfig, scenes: str) -> str:
    """Return a hash of everything that decides which clips are kept, the table aside."""
    decides = {
        "rules": [(each.name, each.column, each.at_least, each.threshold) for each in rules],
        "licences": config.licences,
        "persons": config.persons,
        "duplicates": config.duplicates,
        "contaminated": config.contaminated,
        "unmeasured": config.unmeasured.value,
        "scenes": scenes,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def read_frozen(out: Path) -> dict[str, Rule]:
    """Return the rules of rules_used.yaml by name; none if there is no file.

    Raises:
        ConfigError: the file is not one that stage select has written.
    """
    file = out / USED
    if not file.exists():
        return {}
    names = set(Rule.__dataclass_fields__)
    try:
        rows = yaml.safe_load(short_text(file, MOST_CHARACTERS))["rules"]
        found = [Rule(**{name: row[name] for name in names}) for row in rows]
        whole = all(
            isinstance(each.name, str) and math.isfinite(float(each.threshold)) for each in found
        )
    except (OSError, NotTextError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file} cannot be read ({' '.join(str(error).split())[:200]}): remove it, and "
            "quantiles are computed anew"
        ) from error
    if not whole:
        raise ConfigError(f"{file} is damaged: remove it, and quantiles are computed anew")
    return {each.name: each for each in found}


def used_facts(out: Path) -> dict[str, Any]:
    """Return what rules_used.yaml holds; nothing if there is no such file."""
    file = out / USED
    if not file.exists():
        return {}
    try:
        given = yaml.safe_load(short_text(file, MOST_CHARACTERS))
    except (OSError, NotTextError, yaml.YAMLError):
        return {}
    return given if isinstance(given, dict) else {}


def judged_table(out: Path) -> str | None:
    """Return the hash of the table that rules_used.yaml is about; None if there is no such file."""
    given = used_facts(out)
    return str(given.get("table_hash")) if given else None


def as_yaml(facts: Mapping[str, Any], rules: list[Rule], counts: Mapping[str, Any]) -> str:
    """Return the text of rules_used.yaml.

    Args:
        facts: what stands before the rules.
        counts: what each reason dropped, by its name.
    """
    entries = [asdict(rule) | dict(counts[rule.name]) for rule in rules]
    own = {rule.name for rule in rules}
    others = {name: dict(each) for name, each in counts.items() if name not in own}
    said = {**facts, "rules": entries, "other_reasons": others}
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def counts_when_unmeasured(unmeasured: Unmeasured) -> str:
    """Return in words what a score that was not measured means."""
    return {
        Unmeasured.undecided: "neither kept nor dropped",
        Unmeasured.drop: "dropped",
        Unmeasured.keep: "not held against them",
    }[unmeasured]
