"""Rules for hashtags: which count, which mean the same, which are too broad, and views of each.

The YAML file that hashtags= names has any of

    include: [dance, basketball]            # the only ones that count; without it, all do
    merge: {basketball: [dunking, bball]}   # those in brackets become the one before them
    split: {ballroomdance: [salsa, tango]}  # too broad: it counts only by the ones in brackets
    min_views: 5000000                      # of all videos of the corpus with the hashtag together
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from videomae.config import ConfigError
from videomae.curate.metadata import normalised, unique
from videomae.lists.text_files import NotTextError, short_text

MOST_CHARACTERS = 2**22
"""Largest number of characters of the file of rules."""
KEYS = ("include", "merge", "split", "min_views")


@dataclass(frozen=True)
class HashtagRules:
    """Rules for hashtags; all hashtags in them are normalised."""

    include: frozenset[str] | None = None
    """The only hashtags that count; None: all do."""
    becomes: dict[str, str] = field(default_factory=dict)
    """Hashtag that another one becomes."""
    broad: frozenset[str] = frozenset()
    """Hashtags that are too broad to count."""
    min_views: int = 0
    """Fewest views of all videos with the hashtag together."""

    def applied(self, hashtags: Iterable[str]) -> list[str]:
        """Return the hashtags of a video after include, merge and split."""
        merged = unique(self.becomes.get(each, each) for each in hashtags)
        return [
            each
            for each in merged
            if each not in self.broad and (self.include is None or each in self.include)
        ]


def read_rules(file: Path | None) -> HashtagRules:
    """Read the rules for hashtags; None: there are none.

    Raises:
        ConfigError: the file cannot be read, or is not of that form; the error names the key.
    """
    if file is None:
        return HashtagRules()
    try:
        given = yaml.safe_load(short_text(file, MOST_CHARACTERS)) or {}
    except (OSError, NotTextError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"hashtags={file} is no YAML file: {reason[:200]}") from error
    if not isinstance(given, dict) or set(given) - set(KEYS):
        raise ConfigError(f"hashtags={file} must be of the keys {', '.join(KEYS)}")
    include = given.get("include")
    views = given.get("min_views") or 0
    if not isinstance(views, int) or isinstance(views, bool) or views < 0:
        raise ConfigError(f"hashtags={file}: min_views must be a number of views, got {views!r}")
    becomes: dict[str, str] = {}
    for name, others in _groups(given, "merge", file).items():
        for other in others:
            if becomes.setdefault(other, name) != name:
                raise ConfigError(
                    f"hashtags={file}: merge has {other} below {becomes[other]} and {name}"
                )
    split = _groups(given, "split", file)
    named = None if include is None else frozenset(_words(include, "include", file))
    if named is not None:
        named |= {each for others in split.values() for each in others}
    return HashtagRules(named, becomes, frozenset(split), views)


def _groups(given: dict[str, Any], key: str, file: Path) -> dict[str, list[str]]:
    value = given.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"hashtags={file}: {key} must be lists of hashtags by hashtag")
    return {normalised(str(name)): _words(each, key, file) for name, each in value.items()}


def _words(value: Any, key: str, file: Path) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str | int) for each in value):
        raise ConfigError(
            f"hashtags={file}: {key} must be a list of hashtags, got {str(value)[:80]}; a hashtag "
            'with its # needs quotes in YAML: "#dance"'
        )
    return unique(map(str, value))


def with_enough_views(
    hashtags: Sequence[list[str] | None], views: Sequence[int | None], rules: HashtagRules
) -> list[list[str] | None]:
    """Return the hashtags of all videos without those that have too few views in all together."""
    if rules.min_views == 0:
        return list(hashtags)
    total: Counter[str] = Counter()
    for some, count in zip(hashtags, views, strict=True):
        for each in some or ():
            total[each] += count or 0
    return [
        None if some is None else [each for each in some if total[each] >= rules.min_views]
        for some in hashtags
    ]
