"""YAML as runs write it, read so that a hostile document takes no more time or memory than it."""

from typing import Any

import yaml

MOST_YAML = 2**18
"""Characters of the longest YAML document that is read: it takes a while."""


def plain_yaml(text: str) -> Any:
    """The value of a YAML document as runs write them: short, and without aliases.

    Raises:
        ValueError, RecursionError, yaml.YAMLError: it is another.
    """
    if len(text) > MOST_YAML:
        raise ValueError(f"more than {MOST_YAML:,} characters of YAML")
    return yaml.load(text, _PlainLoader)  # a safe one


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, by which a short document stands for a value without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds aliases, which no run writes")
        return super().compose_node(parent, index)
