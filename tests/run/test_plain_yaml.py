"""YAML of run directories that came from others."""

import pytest
import yaml

from videomae.run.plain_yaml import MOST_YAML, plain_yaml


def test_what_runs_write_is_read() -> None:
    assert plain_yaml("a: [1, 2]\nb: {c: null, d: 'x'}") == {
        "a": [1, 2],
        "b": {"c": None, "d": "x"},
    }


def test_aliases_are_refused() -> None:
    """Ten levels of ten each would stand for ten billion values."""
    with pytest.raises(yaml.YAMLError, match="aliases"):
        plain_yaml("a: &x [1]\nb: [*x, *x]")


def test_objects_are_refused() -> None:
    with pytest.raises(yaml.YAMLError):
        plain_yaml("!!python/object/apply:os.system [true]")


def test_a_long_document_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="262,144 characters"):
        plain_yaml("- a\n" * MOST_YAML)
