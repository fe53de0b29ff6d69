"""The rules and the meaning of each setting, stored in its field, and the errors of settings.

A field of a config class is made by `setting(...)`; the docstring below the field is its meaning.
--help, the checks, the identity of a run and the report page read them from there, so that no
second list of settings exists.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

RULES = "rules"
"""Key under which a field's metadata holds its Rules."""
USES = ("evaluate", "extract", "predict", "probe", "reconstruct")
"""Commands that use trained weights: many settings of a training have no effect in them."""


class UserError(ValueError):
    """An error that the user can correct. The commands print its message without a traceback."""


class ConfigError(UserError):
    """An error of a setting, or of a combination of settings, that cannot work."""


@dataclass(frozen=True)
class Rules:
    """The rules of one setting: its bounds, and which parts of the package use it."""

    at_least: float | None = None
    """Smallest value of a number."""
    above: float | None = None
    """Bound that a number must be larger than."""
    at_most: float | None = None
    """Largest value of a number."""
    below: float | None = None
    """Bound that a number must be smaller than."""
    null: str = ""
    """Meaning of null, in words for an error about a number; empty: not mentioned."""
    is_path: bool = False
    """Whether the value is the path or the address of a file or a directory."""
    must_exist: bool = False
    """Whether the file or directory must exist when a command begins."""
    may_be_address: bool = False
    """Whether the value may be an address, such as s3://bucket/pack, instead of a path."""
    choices: tuple[str, ...] = ()
    """Values that completion and help propose for the setting; it may have others."""
    example: str = ""
    """An example value, for errors that ask for one."""
    may_change: bool = False
    """Whether the setting may differ when a run resumes from its checkpoint: the training does not
    depend on it, or the files that it names are compared by their hashes."""
    new: bool = False
    """Whether runs of earlier versions lack the setting: it is part of a run's identity only where
    it is not at its default, so that those runs can go on."""
    finetuning_only: bool = False
    """Whether the setting has no meaning in pre-training, where it must keep its default."""
    in_features: bool = False
    """Whether the features that a frozen encoder computes of a video depend on the setting."""
    no_effect_in: tuple[str, ...] = ()
    """Commands that have the setting, or its section, but on which it has no effect, so that their
    --help leaves it out."""
    from_weights_in: tuple[str, ...] = ()
    """Commands that take the setting from their weights, so that their --help leaves it out."""
    often: bool = False
    """Whether users give the setting often: --help shows it first."""
    on_page: bool = False
    """Whether the report page shows the setting; a `new` one only where it is not at its
    default."""

    def holds(self, value: float) -> bool:
        """Return whether a number lies within the bounds; NaN does not."""
        return (
            value == value
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def bounds(self) -> str:
        """Return the bounds in words, as they follow "must" in an error."""
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
    """Make a field of a config class.

    Args:
        default: the default; without one, a yaml file or the command line must give the value.
        factory: function that makes the default, where it is a list, a dict or a section.
        kw_only: whether the constructor takes the field only by name.
        rules: fields of `Rules`, by name.
    """
    metadata = {RULES: Rules(**rules)}
    if factory is not None:
        return field(default_factory=factory, kw_only=kw_only, metadata=metadata)
    return field(default=default, kw_only=kw_only, metadata=metadata)


def input_path(example: str, **rules: Any) -> Any:
    """Make a field of a config class for a file or folder that must be there; null: none is given.

    Args:
        example: a path, for help and messages.
        rules: other fields of `Rules`, by name.
    """
    return setting(None, is_path=True, must_exist=True, example=example, **rules)


def rules_of(each: Field[Any]) -> Rules:
    """Return the rules of a field of a config class."""
    found: Rules = each.metadata.get(RULES, Rules())
    return found


def check(holds: bool, message: str) -> None:
    """Raise a ConfigError with a message unless a condition holds."""
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
    """Return the dotted name of a setting: section.name, or the name alone without a section."""
    return f"{section}.{name}" if section else name


@dataclass(frozen=True)
class Known:
    """One setting of a command: its name, its type, its meaning and its rules."""

    key: str
    """Dotted name of the setting. In a group with free names, such as data.sources, NAME stands for
    the name."""
    field: Field[Any]
    kind: Any
    """Type of the setting's value."""
    owner: type
    """Config class that has the setting as a field."""
    sections: tuple[Rules, ...]
    """Rules of the sections that the setting stands in, the outermost first."""

    @property
    def meaning(self) -> str:
        """Meaning of the setting in words, on one line."""
        return meanings(self.owner).get(self.field.name, "")

    @property
    def rules(self) -> Rules:
        """The rules of the setting."""
        return rules_of(self.field)

    @property
    def may_change(self) -> bool:
        """Whether the setting may differ when a run resumes: it or its section says so."""
        return any(rules.may_change for rules in (*self.sections, self.rules))

    def has_effect_in(self, command: str) -> bool:
        """Return whether a command that has the setting depends on it."""
        return all(command not in rules.no_effect_in for rules in (*self.sections, self.rules))

    def from_weights_in(self, command: str) -> bool:
        """Return whether a command that has the setting takes it from its weights."""
        return any(command in rules.from_weights_in for rules in (*self.sections, self.rules))


@cache
def all_settings(
    config_class: type, prefix: str = "", sections: tuple[Rules, ...] = ()
) -> list[Known]:
    """Return every setting of a config class; those of its sections come last.

    Args:
        prefix: start of the dotted names; empty for a whole config.
        sections: rules of the sections that the class's settings stand in.
    """
    kinds = get_type_hints(config_class)
    own, inner = [], []
    for each in fields(config_class):
        key, kind, within = f"{prefix}{each.name}", kinds[each.name], (*sections, rules_of(each))
        if hasattr(kind, "__dataclass_fields__"):
            inner += all_settings(kind, f"{key}.", within)
            continue
        own.append(Known(key, each, kind, config_class, sections))
        if get_origin(kind) is dict:
            inner += all_settings(get_args(kind)[1], f"{key}.NAME.", within)
    return own + inner


def settings_in_use(config_class: type) -> list[Known]:
    """Return the settings of a command's config class that have an effect in the command."""
    command = _command_of(config_class)
    return [known for known in all_settings(config_class) if known.has_effect_in(command)]


def listed_settings(config_class: type) -> list[Known]:
    """Return the settings of a command's config class that its --help lists: those that have an
    effect and do not come from weights."""
    command = _command_of(config_class)
    return [known for known in settings_in_use(config_class) if not known.from_weights_in(command)]


def _command_of(config_class: type) -> str:
    """Return the name of the command whose config a class is: EvaluateConfig is evaluate's."""
    return config_class.__name__.removesuffix("Config").lower()


def find(config: Any, key: str) -> tuple[Any, Known]:
    """Return the value of a setting of a config object, and its name, type, meaning and rules.

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
    """Return the meanings of a config class's fields by name: their docstrings, each on one
    line."""
    return dict(_meanings(config_class))


def _meanings(config_class: type) -> Iterator[tuple[str, str]]:
    for part in reversed(config_class.__mro__[:-1]):
        body = _classes_in(part.__module__)[part.__name__].body
        for each, text in pairwise(body):
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                match text:
                    case ast.Expr(value=ast.Constant(value=str(words))):
                        yield each.target.id, " ".join(words.split())


@cache
def _classes_in(module: str) -> dict[str, ast.ClassDef]:
    """Return the classes of a module by name, parsed from its source all at once."""
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    return {each.name: each for each in body if isinstance(each, ast.ClassDef)}


def check_seed(seed: int) -> None:
    """Check that a random seed lies in [0, 2**63).

    Raises:
        ConfigError: it does not.
    """
    check(0 <= seed < 2**63, f"seed must lie in [0, 2**63), got {seed}")


def check_name(name: str) -> None:
    """Check that outputs/NAME, the directory of a run of that name, lies below outputs/.

    Raises:
        ConfigError: it does not.
    """
    check(
        not {"", ".", ".."} & set(re.split(r"[/\\]", name)),
        f"name={name} would not lie below outputs/: give a name without .. and without a / at "
        "either end, such as my_run; output_dir= names any directory",
    )


def config_dir() -> Path:
    """Return the directory of the yaml files: inside an installed package, or beside it in a
    checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
