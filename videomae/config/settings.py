"""What a setting means and may be, kept in its field, and the errors of settings.

A field of a config class is made by `setting(...)`; the docstring below it is its meaning. Help,
checks, the identity of a run and the page of a report are read from there, so that no list of
settings is kept anywhere else.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

RULES = "rules"
"""Key of a field's metadata under which its Rules are."""


class UserError(ValueError):
    """Something the user can mend. The commands print it in one piece, without a traceback."""


class ConfigError(UserError):
    """A setting, or two settings together, that cannot work."""


@dataclass(frozen=True)
class Rules:
    """What a setting may be, and what it takes part in."""

    at_least: float | None = None
    """Least number."""
    above: float | None = None
    """Number that it must be larger than."""
    at_most: float | None = None
    """Largest number."""
    below: float | None = None
    """Number that it must be smaller than."""
    null: str = ""
    """What null stands for, where an error about a number should say it."""
    is_path: bool = False
    """Whether it names a file, a directory, or an address of one."""
    must_exist: bool = False
    """Whether that must be there when a command begins."""
    choices: tuple[str, ...] = ()
    """Values that are proposed for it; it may have others."""
    example: str = ""
    """A value, for errors that ask for one."""
    may_change: bool = False
    """Whether it may be another one when a run goes on from its checkpoint: nothing that is learned
    depends on it, or the files that it names are compared by their hashes."""
    new: bool = False
    """Whether runs of earlier versions do not have it: it is part of a run's identity only where it
    is not at its default, so that those runs can go on."""
    finetuning_only: bool = False
    """Whether it has no meaning in pre-training, and must be left at its default there."""
    in_features: bool = False
    """Whether the features of a video by a frozen encoder depend on it."""
    often: bool = False
    """Whether people give it often: help shows it first."""
    on_page: bool = False
    """Whether the page of a report quotes it."""

    def holds(self, value: float) -> bool:
        """Whether a number lies within the bounds; NaN does not."""
        return (
            value == value
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def bounds(self) -> str:
        """The bounds in words, as they follow "must"."""
        low = self.above if self.at_least is None else self.at_least
        high = self.below if self.at_most is None else self.at_most
        if low is not None and high is not None:
            left, right = "(["[self.above is None], ")]"[self.below is None]
            return f"lie in {left}{low}, {high}{right}"
        if low is not None:
            return f"be {'at least' if self.above is None else 'more than'} {low}"
        return f"be {'at most' if self.below is None else 'less than'} {high}"


def setting(
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    kw_only: bool = False,
    **rules: Any,
) -> Any:
    """A field of a config class.

    Args:
        default: where it has none, a config on disk or the command line must give it.
        factory: makes the default, where that is a list or a section.
        kw_only: whether the constructor takes it by name alone.
        rules: those of `Rules`, by name.
    """
    metadata = {RULES: Rules(**rules)}
    if factory is not None:
        return field(default_factory=factory, kw_only=kw_only, metadata=metadata)
    return field(default=default, kw_only=kw_only, metadata=metadata)


def rules_of(each: Field[Any]) -> Rules:
    """The rules of a field."""
    found: Rules = each.metadata.get(RULES, Rules())
    return found


def check(holds: bool, message: str) -> None:
    """Raise a ConfigError with that message unless something holds."""
    if not holds:
        raise ConfigError(message)


def check_bounds(config: Any, section: str = "") -> None:
    """Check every number of a config object against the bounds that its field has.

    Args:
        section: the dotted name of the object, as the user writes it; empty for a whole config.

    Raises:
        ConfigError: naming the setting, its bounds and its value.
    """
    for each in fields(config):
        rules, value = rules_of(each), getattr(config, each.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or rules.holds(value):
            continue
        bounds = rules.bounds() + (f", or null for {rules.null};" if rules.null else ",")
        raise ConfigError(f"{dotted(section, each.name)} must {bounds} got {value}")


def dotted(section: str, name: str) -> str:
    """What the user calls a setting of a section, or of none."""
    return f"{section}.{name}" if section else name


@dataclass(frozen=True)
class Known:
    """One setting of a command."""

    key: str
    """Its dotted name. A group whose names are free has NAME in their place."""
    field: Field[Any]
    kind: Any
    """Its type."""
    meaning: str
    """In words, on one line."""
    may_change: bool
    """As Rules.may_change, of the setting itself or of its section."""

    @property
    def rules(self) -> Rules:
        """What it may be."""
        return rules_of(self.field)


@cache
def all_settings(config_class: type, prefix: str = "", may_change: bool = False) -> list[Known]:
    """Every setting of a config class; the class's own come before those of its sections."""
    kinds, words = get_type_hints(config_class), meanings(config_class)
    own, inner = [], []
    for each in fields(config_class):
        key, kind = f"{prefix}{each.name}", kinds[each.name]
        free = may_change or rules_of(each).may_change
        if hasattr(kind, "__dataclass_fields__"):
            inner += all_settings(kind, f"{key}.", free)
            continue
        own.append(Known(key, each, kind, words.get(each.name, ""), free))
        if get_origin(kind) is dict:
            inner += all_settings(get_args(kind)[1], f"{key}.NAME.", free)
    return own + inner


def find(config: Any, key: str) -> tuple[Any, Known]:
    """The value of a setting of a config object, and what is known of it.

    Raises:
        KeyError: there is no such setting.
    """
    value, names, config_class = config, [], config.__class__
    for name in key.split("."):
        names.append("NAME" if isinstance(value, dict) else name)
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    known = {each.key: each for each in all_settings(config_class)}
    return value, known[".".join(names)]


@cache
def meanings(config_class: type) -> dict[str, str]:
    """The docstring below each field, on one line, of a config class and of those it extends."""
    return dict(_meanings(config_class))


def _meanings(config_class: type) -> Iterator[tuple[str, str]]:
    for part in reversed(config_class.__mro__[:-1]):
        body = ast.parse(inspect.getsource(part)).body[0]
        assert isinstance(body, ast.ClassDef)
        for each, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                match text:
                    case ast.Expr(value=ast.Constant(value=str(words))):
                        yield each.target.id, " ".join(words.split())


def check_seed(seed: int) -> None:
    """Check a seed's bounds."""
    check(0 <= seed < 2**63, f"seed must lie in [0, 2**63), got {seed}")


def check_name(name: str) -> None:
    """Check that the directory of a run of that name lies below outputs/."""
    check(
        not {"", ".", ".."} & set(re.split(r"[/\\]", name)),
        f"name={name} would not lie below outputs/: give a name without .. and without a / at "
        "either end, such as my_run; output_dir= names any directory",
    )


def config_dir() -> Path:
    """Where the yaml files are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
