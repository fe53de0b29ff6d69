"""Code of your own that a setting names as package.module:Name; see docs/extending.md.

Importing a module runs it. So only names that the user's own settings give are ever imported, never
what a file of others says: the config of another's run, or the metadata of weights.
"""

import importlib
import os
import re
import sys
import traceback
from functools import cache
from typing import Any

from videomae.config import ConfigError

FORM = "package.module:Name"


def is_extension(name: str) -> bool:
    """Whether a setting names code of the user's own, rather than something built in."""
    return ":" in name


@cache
def extension(key: str, name: str) -> Any:
    """Import the class or function that a setting names.

    The directory where the command was started is looked in first, as `python -m` does it; the
    console script `videomae` would not. Decoding processes find it too.

    Args:
        key: the setting, for messages, such as data.decoder.
        name: its value, package.module:Name.

    Raises:
        ConfigError: it cannot be imported, or is nothing that can be called.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name):
        raise ConfigError(f"{key}={name} is not of the form {FORM}, such as mine.tools:Name")
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    if not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, attribute, None)
    except (ImportError, SyntaxError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{key}={name}: {module_name} cannot be imported ({reason}): its package must lie in "
            f"the directory where the command is started ({here}), in one that PYTHONPATH names, "
            f"or be installed; try python -c 'import {module_name}'"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the code of the user raises
        reason = next(iter(traceback.format_exception_only(error)[-1].splitlines()))
        raise ConfigError(
            f"{key}={name}: {module_name} ends in an error when it is imported ({reason}): see "
            f"where with python -c 'import {module_name}'"
        ) from error
    if found is None:
        place = getattr(module, "__file__", None) or module_name
        raise ConfigError(
            f"{key}={name}: {place} defines no {attribute}: give the name of a class or "
            "function in it"
        )
    if not callable(found):
        raise ConfigError(
            f"{key}={name}: {attribute} is of type {type(found).__name__}: give the name of a "
            "class or function"
        )
    return found
