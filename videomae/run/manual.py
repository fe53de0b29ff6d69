"""The help text of a command: its description, the configs to choose from and all settings."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from enum import Enum

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from videomae.config.settings import Known, listed_settings
from videomae.run.console import SafeConsole
from videomae.run.overrides import folders_of, groups_of

LEAST_WIDTH = 40
"""Width of the help text on a terminal that is narrower, or says that it has none."""


WIDE = 80
"""Width from which on no key of a setting is broken."""


def print_manual(text: str, config_class: type, words: Sequence[str] = ()) -> None:
    """Print the help text of a command.

    Args:
        text: description of the command.
        config_class: the command's config class.
        words: the command line, which may name further folders of configs.
    """
    console = SafeConsole(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    console.print(Text(text), soft_wrap=True)  # commands in it are copied
    whole_keys = console.width >= WIDE
    known = listed_settings(config_class)
    sections = {each.key.partition(".")[0] for each in known} | {"exp"}
    groups = groups_of(config_class, folders_of(words))
    if groups := {group: names for group, names in groups.items() if group in sections}:
        console.print(_table_of(groups))
    often = [each for each in known if each.rules.often]
    if often:
        title = "\nSettings that are given most, as KEY=VALUE"
        console.print(_settings(title, often, whole_keys=whole_keys))
    more = [each for each in known if not each.rules.often]
    title = "\nMore settings" if often else "\nSettings, as KEY=VALUE"
    title += " (no default: its group says)"
    console.print(_settings(title, more, whole_keys=whole_keys))


def _table_of(groups: Mapping[str, list[str]]) -> RenderableType:
    table = Table(title="\nConfigs to choose from, as GROUP=NAME (exp as +exp=NAME)", box=None)
    table.title_justify = "left"
    table.add_column("group")
    table.add_column("names")
    for group, names in groups.items():
        table.add_row(group, " ".join(names))
    return table


def _settings(title: str, settings: Sequence[Known], *, whole_keys: bool) -> RenderableType:
    """Return a table of settings: key, default and meaning of each.

    Args:
        whole_keys: whether keys are never broken, so that they can be searched for.
    """
    table = Table(title=title, box=None)
    table.title_justify = "left"
    table.add_column("key", overflow="fold", no_wrap=whole_keys)
    table.add_column("default", overflow="fold", max_width=12)
    table.add_column("meaning", overflow="fold")
    for known in settings:
        default, factory = known.field.default, known.field.default_factory
        default = factory() if factory is not MISSING else default
        default = default.name if isinstance(default, Enum) else default
        said = "" if default is MISSING else "null" if default is None else str(default)
        table.add_row(Text(known.key), Text(said), Text(known.meaning))
    return table
