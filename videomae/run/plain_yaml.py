"""Safe reading of YAML: a hostile document cannot take unlimited time or memory."""

from typing import Any

import yaml

MOST_YAML = 2**18
"""Largest number of characters of a YAML document that is read."""


def plain_yaml(text: str) -> Any:
    """Return the value of a short YAML document without aliases, as runs write them.

    Raises:
        ValueError: it is too long.
        RecursionError: it nests too deep.
        yaml.YAMLError: it is not YAML, or holds aliases.
    """
    if len(text) > MOST_YAML:
        raise ValueError(f"more than {MOST_YAML:,} characters of YAML")
    return yaml.load(text, _PlainLoader)  # a safe one


class _PlainLoader(yaml.SafeLoader):
    """A safe YAML loader without aliases, by which a short document can hold an endless value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds aliases, which no run writes")
        return super().compose_node(parent, index)
