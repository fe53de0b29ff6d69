"""The words of a command line, before Hydra reads them: paths as they are, names that exist.

Hydra reads a value by a grammar of its own, in which a folder called "a [b], c=d" is an error or a
list. A setting that is a path is put into quotes where that is needed. A misspelt setting, group or
config is answered by the names that are nearest.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from videomae.config import ConfigError, TrainConfig, config_dir
from videomae.config.settings import Known, all_settings

PLAIN = re.compile(r"[A-Za-z0-9_./@+-]*")
"""Values that Hydra takes as they are, unless they are"""
OTHER = re.compile(r"true|false|null|nan|[+-]?inf|[+-]?[\d_.]+(?:e[+-]?[\d_]+)?", re.IGNORECASE)
"""what it takes for something else than text."""
FUNCTION = re.compile(r"(?:choice|range|interval|glob|sort|shuffle|tag)\(.*\)")
"""A sweep in Hydra's own words."""
SWEEPS = {"-m", "--multirun"}
NEAREST = 3
"""Names that are proposed, at most."""
ALIKE = 0.6
"""How much of a name must be the same for it to be proposed, from 0 to 1."""


class Override(NamedTuple):
    """One KEY=VALUE."""

    prefix: str
    """+, ++, ~ or nothing."""
    key: str
    value: str | None
    """None where there is no =, as in ~data.sources.NAME."""

    def __str__(self) -> str:
        return self.prefix + self.key + ("" if self.value is None else f"={self.value}")


def split(word: str) -> Override | None:
    """The parts of an override; None where a word is none, such as an option."""
    found = re.fullmatch(r"(\+\+|\+|~|)([A-Za-z_][^=]*)(?:=(.*))?", word, re.DOTALL)
    if found is None or (found[3] is None and found[1] != "~"):
        return None
    return Override(found[1], found[2], found[3])


def literal(words: Sequence[str], config_class: type) -> list[str]:
    """The words with every path in quotes that Hydra would read in another way.

    Left as they are: ${...}, null, what is in quotes already, and under -m the commas between
    several values, and Hydra's functions.
    """
    sweeps = bool(SWEEPS & set(words))
    quoted = []
    for word in words:
        found = split(word)
        known = _known(found.key, config_class) if found and found.value else None
        if found and found.value and known and known.rules.is_path:
            word = str(found._replace(value=_as_path(found.value, sweeps)))
        quoted.append(word)
    return quoted


def _as_path(value: str, sweeps: bool) -> str:
    if sweeps and FUNCTION.fullmatch(value):
        return value
    values = _elements(value) if sweeps else [value]
    return ",".join(_quoted(each) for each in values)


def _elements(value: str) -> list[str]:
    """The values of a sweep: what commas separate, outside of quotes."""
    return re.findall(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,])+""", value)


def _quoted(value: str) -> str:
    whole = re.fullmatch(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", value, re.DOTALL)
    plain = PLAIN.fullmatch(value) and not OTHER.fullmatch(value)
    if plain or value == "null" or "${" in value or whole:
        return value
    # Hydra: a backslash is one, but before a quote, and at the end.
    inner = re.sub(r"(\\*)(')", r"\1\1\\'", value)
    inner = re.sub(r"(\\+)$", r"\1\1", inner)
    return f"'{inner}'"


def _known(key: str, config_class: type) -> Known | None:
    """What is known of a setting by its dotted name."""
    for known in all_settings(config_class):
        pattern = re.escape(known.key).replace(r"\.NAME\.", r"\.[^.]+\.")
        if re.fullmatch(pattern, key):
            return known
    return None


def check_names(words: Sequence[str], config_class: type) -> None:
    """Check that the settings and the configs that overrides name exist.

    Raises:
        ConfigError: with the nearest names.
    """
    folders = folders_of(words)
    for word in words:
        found = split(word)
        if found is None or found.key.startswith(("hydra.", "hydra/")) or "@" in found.key:
            continue
        key = found.key.removeprefix("/")
        groups = groups_of(config_class, folders)
        if key in groups and not _is_section(found.value):
            if folders is not None:
                _check_choices(key, found.value or "", groups[key])
        elif not _exists(key, config_class):
            names = [each.key for each in all_settings(config_class)] + list(groups)
            raise ConfigError(
                f"there is no setting {key}{did_you_mean(key, names)}; --help lists all of them"
            )


def _is_section(value: str | None) -> bool:
    """Whether a value holds settings, rather than the name of a config."""
    return value is not None and value.startswith("{")


def _check_choices(group: str, value: str, names: Sequence[str]) -> None:
    for choice in value.strip("[]").split(","):
        if not re.fullmatch(r"[\w.-]+", choice) or choice in (*names, "null"):
            continue
        advice = did_you_mean(choice, names) or f"; there are {' '.join(names)}"
        raise ConfigError(f"there is no {group}={choice}{advice}; --help lists all of them")


def _exists(key: str, config_class: type) -> bool:
    """Whether a setting, or a section of settings, has that name."""
    for known in all_settings(config_class):
        parts = [r"[^.]+" if part == "NAME" else re.escape(part) for part in known.key.split(".")]
        if any(re.fullmatch(r"\.".join(parts[:n]), key) for n in range(1, len(parts) + 1)):
            return True
    return False


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """Advice that follows a name that does not exist; empty where none is near.

    A name is also near where its last part is, as lr of optim.base_lr.
    """

    def alike(other: str) -> float:
        last = other.rpartition(".")[2]
        whole = difflib.SequenceMatcher(None, name, other).ratio()
        part = difflib.SequenceMatcher(None, name.rpartition(".")[2], last).ratio()
        inside = 0.9 if name.rpartition(".")[2] in last.split("_") else 0.0
        return max(whole, part, inside) + whole / 10

    near = [other for other in sorted(names, key=alike, reverse=True) if alike(other) >= ALIKE]
    best = near[:NEAREST]
    if not best:
        return ""
    return f"; did you mean {' or '.join(filter(None, [', '.join(best[:-1]), best[-1]]))}?"


def folders_of(words: Sequence[str]) -> list[Path] | None:
    """Where configs are looked for: the package's, those of --config-dir and hydra.searchpath.

    None where a place is not a folder, such as another package's.
    """
    folders = [config_dir(), *map(Path, _config_dirs(words))]
    for word in words:
        found = split(word)
        if found is None or found.key != "hydra.searchpath":
            continue
        for place in re.findall(r"[^\[\],'\"\s]+", found.value or ""):
            if "://" in place and not place.startswith("file://"):
                return None
            folders.append(Path(place.removeprefix("file://")))
    return folders


def _config_dirs(words: Sequence[str]) -> Iterator[str]:
    for number, word in enumerate(words):
        if word in ("--config-dir", "-cd") and number + 1 < len(words):
            yield words[number + 1]
        elif word.startswith("--config-dir="):
            yield word.partition("=")[2]


def groups_of(config_class: type, folders: Sequence[Path] | None = None) -> dict[str, list[str]]:
    """The names of the configs that a command chooses from, by group.

    Args:
        folders: where they lie; None: those of the package.
    """
    sections = {key.key.partition(".")[0] for key in all_settings(config_class) if "." in key.key}
    wanted = sections | ({"exp"} if issubclass(config_class, TrainConfig) else set())
    found: dict[str, set[str]] = {}
    for folder in folders or [config_dir()]:
        for group in sorted(wanted):
            for path in (folder / group).glob("*.yaml"):
                found.setdefault(group, set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}
