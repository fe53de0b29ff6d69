"""What --help prints: a command's own words, the configs to choose from, and every setting."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from enum import Enum

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from videomae.config import TrainConfig, config_dir
from videomae.config.settings import all_settings
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
    if issubclass(config_class, TrainConfig):
        wanted.add("exp")
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(config_dir().iterdir())
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


def _rows(config_class: type) -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of every setting of a config class."""
    for known in all_settings(config_class):
        default, factory = known.field.default, known.field.default_factory
        default = factory() if factory is not MISSING else default
        default = default.name if isinstance(default, Enum) else default
        shown = "" if default is MISSING else "null" if default is None else str(default)
        yield known.key, shown, known.meaning
