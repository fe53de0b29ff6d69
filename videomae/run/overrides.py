"""The overrides of a command line before Hydra reads them: quoting of paths, check of names.

Hydra reads a value by a grammar of its own, in which a folder called "a [b], c=d" is an error or a
list. The value of a setting that is a path is put into quotes where Hydra needs them. The error of
a misspelt setting, group or config names the nearest ones that exist.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, get_args

from omegaconf import BooleanNode, EnumNode, FloatNode, IntegerNode
from omegaconf.errors import ValidationError

from videomae.config import ConfigError, TrainConfig, config_dir
from videomae.config.settings import Known, all_settings

PLAIN = re.compile(r"[A-Za-z0-9_./@+-]*")
"""Values that need no quotes for Hydra, unless NOT_TEXT matches them."""
NOT_TEXT = re.compile(r"true|false|null|nan|[+-]?inf|[+-]?[\d_.]+(?:e[+-]?[\d_]+)?", re.IGNORECASE)
"""Values that Hydra does not read as text without quotes: booleans, null and numbers."""
FUNCTION = re.compile(r"(?:choice|range|interval|glob|sort|shuffle|tag)\(.*\)")
"""A value that is a sweep function of Hydra."""
SWEEPS = {"-m", "--multirun"}
VALUED = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun"),
}
"""Options of Hydra whose value may be the next word."""
INFO = ("--info", "-i")
"""An option of Hydra that has a value or none."""
NEAREST = 3
"""Largest number of names that an error proposes."""
MIN_SIMILARITY = 0.6
"""Smallest similarity of a name that an error proposes, from 0 to 1."""


class Expected(NamedTuple):
    """A type of values: the node of OmegaConf that reads them, and words for it."""

    node: type[IntegerNode | FloatNode | BooleanNode]
    words: str


EXPECTED = {
    int: Expected(IntegerNode, "a whole number"),
    float: Expected(FloatNode, "a number"),
    bool: Expected(BooleanNode, "true or false"),
}
"""Words for the types of numbers and booleans."""


class Override(NamedTuple):
    """An override of the command line: KEY=VALUE, with +, ++ or ~ before it, or without."""

    prefix: str
    """Prefix of the key: +, ++, ~ or nothing."""
    key: str
    value: str | None
    """Text after =; None where there is no =, as in ~data.sources.NAME."""

    def __str__(self) -> str:
        return self.prefix + self.key + ("" if self.value is None else f"={self.value}")


def split(word: str) -> Override | None:
    """Return a word of the command line as an override; None if it is none, such as an option."""
    found = re.fullmatch(r"(\+\+|\+|~|)([A-Za-z_][^=]*)(?:=(.*))?", word, re.DOTALL)
    if found is None or (found[3] is None and found[1] != "~"):
        return None
    return Override(found[1], found[2], found[3])


def options_last(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with its options behind its overrides.

    Hydra takes overrides on one side of an option alone, and else calls a right one unknown.
    """
    overrides: list[str] = []
    options: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        value = before in VALUED or (before in INFO and "=" not in word)
        (options if value or word.startswith("-") else overrides).append(word)
    return overrides + options


def literal(words: Sequence[str], config_class: type) -> list[str]:
    """Return the words of a command line, with paths in quotes where Hydra would misread them.

    These stay as they are: ${...}, null, values in quotes, lists in brackets where a setting may be
    one, and under -m (a sweep) the commas between values and Hydra's functions.
    """
    sweeps = bool(SWEEPS & set(words))
    read = []
    for word in words:
        found = split(word)
        known = _known(found.key, config_class) if found and found.value else None
        if found and found.value and known and known.rules.is_path:
            several = known.kind is Any and re.fullmatch(r"\[.*\]", found.value, re.DOTALL)
            if not several:
                word = str(found._replace(value=_as_path(found.value, sweeps)))
        read.append(word)
    return read


def _as_path(value: str, sweeps: bool) -> str:
    if sweeps and FUNCTION.fullmatch(value):
        return value
    values = _elements(value) if sweeps else [value]
    return ",".join(quoted(each) for each in values)


def _elements(value: str) -> list[str]:
    """Return the values of a sweep, which are separated by commas outside of quotes."""
    return re.findall(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,])+""", value)


def quoted(value: str) -> str:
    """Return a text as Hydra reads it back, in quotes if it needs them."""
    whole = re.fullmatch(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", value, re.DOTALL)
    plain = PLAIN.fullmatch(value) and not NOT_TEXT.fullmatch(value)
    if plain or value == "null" or "${" in value or whole:
        return value
    # Hydra: a backslash is one, but before a quote, and at the end.
    inner = re.sub(r"(\\*)(')", r"\1\1\\'", value)
    inner = re.sub(r"(\\+)\Z", r"\1\1", inner)
    return f"'{inner}'"


def _known(key: str, config_class: type) -> Known | None:
    """Return the setting of a config class with this dotted name; None if there is none."""
    for known in all_settings(config_class):
        pattern = re.escape(known.key).replace(r"\.NAME\.", r"\.[^.]+\.")
        if re.fullmatch(pattern, key):
            return known
    return None


def check_names(words: Sequence[str], config_class: type) -> None:
    """Check that what is named exists: settings, configs, folders; and that values have a type.

    Raises:
        ConfigError: a name does not exist, with the nearest names; or a value is not of the type
            of its setting.
    """
    for folder in _config_dirs(words):
        if not Path(folder).is_dir():
            raise ConfigError(
                f"--config-dir={folder} is no folder: give one that holds folders of settings, "
                "such as exp and data"
            )
    folders = folders_of(words)
    groups = groups_of(config_class, folders)
    for word in words:
        found = split(word)
        if found is None and word.startswith("="):
            raise ConfigError(f"{word} names no setting: give KEY=VALUE; --help lists all settings")
        if found is None or found.key.startswith(("hydra.", "hydra/")) or "@" in found.key:
            continue
        key = found.key.removeprefix("/")
        if key in groups and not _is_section(found.value):
            if folders is not None and found.value is not None:
                _check_choices(found, key, groups[key])
        elif (known := _known(key, config_class)) and PLAIN.fullmatch(found.value or ""):
            if found.value is not None:
                _check_type(known, key, found.value)
            if known.rules.is_path and found.value == "":
                raise ConfigError(
                    f"{key}= is empty: give a path, or leave it out (a variable of the shell that "
                    "is not set?)"
                )
        elif not _exists(key, config_class):
            names = [each.key for each in all_settings(config_class)] + list(groups)
            raise ConfigError(
                f"there is no setting {key}{did_you_mean(key, names)}; --help lists all of them"
            )


def check_readable(words: Sequence[str]) -> None:
    """Check that Hydra can read each override.

    Args:
        words: a command line as `options_last` and `literal` return it.

    Raises:
        ConfigError: it cannot read one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for number, word in enumerate(takewhile(lambda each: not each.startswith("-"), words), 1):
        key, equals, value = word.partition("=")
        try:
            parser.parse_override(word)
        except HydraException as error:
            if not equals:  # it may be a secret, and is not repeated
                raise ConfigError(f"setting {number} has no =: give KEY=VALUE") from error
            reason, inner = str(error).partition("\n")[0], value.replace('"', '\\"')
            raise ConfigError(
                f"{word} cannot be read ({reason}): put the value in quotes, '{key}=\"{inner}\"'"
            ) from error


def _check_type(known: Known, key: str, value: str) -> None:
    """Check that a number, a boolean or a choice can be read as one."""
    kinds = get_args(known.kind) or (known.kind,)
    if value.lower() == "null" and type(None) in kinds:
        return
    kind = next((each for each in kinds if each is not type(None)), None)
    try:
        if kind in EXPECTED:
            expected = EXPECTED[kind].words
            EXPECTED[kind].node(value=value, is_optional=False)
        elif isinstance(kind, type) and issubclass(kind, Enum):
            expected = f"one of {', '.join(kind.__members__)}"
            EnumNode(kind, value=value, is_optional=False)
    except ValidationError as error:
        raise ConfigError(
            f"{key} must be {expected}, got {value or 'nothing'}: {known.meaning}"
        ) from error


def _is_section(value: str | None) -> bool:
    """Return whether a value is a dict of settings, not the name of a config."""
    return value is not None and value.startswith("{")


def _check_choices(override: Override, group: str, names: Sequence[str]) -> None:
    """Check that the configs that an override names are in its group."""
    for choice in (override.value or "").strip("[]").split(","):
        known = choice in names or not re.fullmatch(r"[\w.-]*|\.*/.*", choice)
        if known and (group != "exp" or override.prefix):
            continue
        if known:
            raise ConfigError(f"{override} needs a plus: +{override}")
        advice = did_you_mean(choice, names) or f"; there are {' '.join(names)}"
        raise ConfigError(f"there is no {group}={choice}{advice}; --help lists all of them")


def _exists(key: str, config_class: type) -> bool:
    """Return whether a setting, or a section of settings, has this dotted name."""
    for known in all_settings(config_class):
        parts = [r"[^.]+" if part == "NAME" else re.escape(part) for part in known.key.split(".")]
        if any(re.fullmatch(r"\.".join(parts[:n]), key) for n in range(1, len(parts) + 1)):
            return True
    return False


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """Return "; did you mean ...?" for a name that does not exist; empty if none is near.

    A name is also near if its last part is, as lr is near optim.base_lr.
    """

    section, _, own = name.rpartition(".")

    def similarity(other: str) -> float:
        its_section, _, its_own = other.rpartition(".")
        part = difflib.SequenceMatcher(None, own, its_own).ratio()
        words, its_words = own.split("_"), its_own.split("_")
        part = max(part, 0.9 if own in its_words else 0.8 * bool({*words} & {*its_words}))
        if section != its_section:  # left out, or misspelt too
            same = difflib.SequenceMatcher(None, section, its_section).ratio()
            part *= same if section and its_section else 0.9
        return part

    near = [
        other
        for other in sorted(names, key=similarity, reverse=True)
        if similarity(other) >= MIN_SIMILARITY
    ]
    best = near[:NEAREST]
    if not best:
        return ""
    return f"; did you mean {' or '.join(filter(None, [', '.join(best[:-1]), best[-1]]))}?"


def folders_of(words: Sequence[str]) -> list[Path] | None:
    """Return the folders of configs: the package's, those of --config-dir and hydra.searchpath.

    None if one of them is not a folder, as a pkg:// address.
    """
    folders = [config_dir(), *map(Path, _config_dirs(words))]
    for word in words:
        found = split(word)
        if found is None or found.key != "hydra.searchpath":
            continue
        for place in _listed(found.value or ""):
            if "://" in place and not place.startswith("file://"):
                return None
            folders.append(Path(place.removeprefix("file://")))
    return folders


def _listed(value: str) -> list[str]:
    """Return the texts of a list as Hydra reads it, [a, 'b c'], or of a text alone."""
    inner = re.sub(r"""^(['"]?)\[(.*)\]\1$""", r"\2", value.strip())
    return [each for part in _elements(inner) if (each := part.strip().strip("'\""))]


def _config_dirs(words: Sequence[str]) -> Iterator[str]:
    for number, word in enumerate(words):
        if word in ("--config-dir", "-cd") and number + 1 < len(words):
            yield words[number + 1]
        elif word.startswith("--config-dir="):
            yield word.partition("=")[2]


def groups_of(config_class: type, folders: Sequence[Path] | None = None) -> dict[str, list[str]]:
    """Return the names of the configs that a command can choose from, by group.

    Args:
        folders: the folders of configs; None: those of the package.
    """
    sections = {key.key.partition(".")[0] for key in all_settings(config_class) if "." in key.key}
    wanted = sections | ({"exp"} if issubclass(config_class, TrainConfig) else set())
    found: dict[str, set[str]] = {}
    for folder in folders or [config_dir()]:
        for group in sorted(wanted):
            for path in (folder / group).glob("*.yaml"):
                found.setdefault(group, set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}
