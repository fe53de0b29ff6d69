"""What --help prints: a command's own words, the configs to choose from, and every setting."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import get_args, get_origin, get_type_hints

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from videomae import config
from videomae.run.console import SafeConsole


def print_manual(words: str, config_class: type) -> None:
    """Print the help of the command that is configured by `config_class`."""
    console = SafeConsole(highlight=False)
    console.print(Text(words), soft_wrap=True)  # commands in it are copied
    if groups := _groups(config_class):
        console.print(_table_of(groups))
    console.print(_settings(config_class))


def _groups(config_class: type) -> dict[str, list[str]]:
    """The names of the configs on disk, by group."""
    wanted = {field.name for field in fields(config_class)}
    if issubclass(config_class, config.TrainConfig):
        wanted.add("exp")
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(config.config_dir().iterdir())
        if folder.is_dir() and folder.name in wanted
    }


def _table_of(groups: Mapping[str, list[str]]) -> RenderableType:
    table = Table(title="\nConfigs to choose from, as GROUP=NAME (exp as +exp=NAME)", box=None)
    table.title_justify = "left"
    table.add_column("group")
    table.add_column("names")
    for group, names in groups.items():
        table.add_row(group, " ".join(names))
    return table


def _settings(config_class: type) -> RenderableType:
    """Every key with its default and its meaning."""
    table = Table(title="\nSettings, as KEY=VALUE (no default: its group says)", box=None)
    table.title_justify = "left"
    for column in ("key", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for row in _rows(config_class):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _rows(config_class: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of a config class, its own settings before those of its groups."""
    kinds = get_type_hints(config_class)
    own = [field for field in fields(config_class) if not is_dataclass(kinds[field.name])]
    for field in own:
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        default = default.name if isinstance(default, Enum) else default
        shown = "" if default is MISSING else "null" if default is None else str(default)
        yield prefix + field.name, shown, _meanings(config_class).get(field.name, "")
    for name, kind in kinds.items():
        if get_origin(kind) is dict:
            kind, name = get_args(kind)[1], f"{name}.NAME"
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _rows(kind, f"{prefix}{name}.")


@cache
def _meanings(config_class: type) -> dict[str, str]:
    """The docstring below each field, of the class and of those it extends."""
    found: dict[str, str] = {}
    for part in reversed(config_class.__mro__[:-1]):
        body = ast.parse(inspect.getsource(part)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match text:
                    case ast.Expr(value=ast.Constant(value=str(words))):
                        found[field.target.id] = " ".join(words.split())
    return found
