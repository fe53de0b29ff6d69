"""Text that is safe to print and to log: control characters as escapes, secrets masked.

File names, class names and messages may come from others and hold control characters, which change
a terminal. Overrides and addresses may hold a password or a token, which must not be logged.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

MASKED = "***"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and line feed, characters that change the direction of writing, and
bytes that are not UTF-8."""
_SECRET = r"(?:token|secret|passw(?:or)?d|passphrase|credentials?|apikey|(?<![A-Za-z])key)"
SECRET_NAME = re.compile(rf"(?:^|[\w.-]*[._-]){_SECRET}$", re.IGNORECASE)
"""Names of settings that hold a secret."""
_VALUE = r"""(?:'[^']*(?:'|\Z)|"[^"]*(?:"|\Z)|(?:[^\s'",;&})\]]|,(?=[^\s'"]))+)"""
"""Pattern of a value: a quoted text, even without its closing quote, or a word."""
_EXAMPLE = r"[\[\\']*value1,value2"
"""Pattern of what Hydra's advice on lists gives as a value."""
SETTING = re.compile(
    rf"""(?<![A-Za-z])((?:[\w.-]*[._-])?{_SECRET}=(?!VALUE\b|\.\.|{_EXAMPLE})|  # KEY=value
    (?:api|access|secret|private|auth)[_-]?(?:key|token)['"]?\s*:\s*|  # {{API_KEY: value}}
    (?<=[{{,])\s*['"]?(?:[\w.-]*[._-])?{_SECRET}['"]?\s*:\s*)  # {{password: value}}
    {_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
IN_YAML = re.compile(
    rf"^([ ]*(?:-[ ])?['\"]?(?:[\w.-]*[._-])?{_SECRET}['\"]?:[ ]+)(?!null$).+$",
    re.IGNORECASE | re.MULTILINE,
)
"""Pattern of a line of YAML whose key has the name of a secret."""
IN_ADDRESS = re.compile(
    r"(\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2})"
    r"(?:[^/\s'\"]+@|[^/\s'\":@\[]+:(?!\d{1,5}\b)[^/\s'\"]+)"
)
"""Pattern of a user and a password in an address."""
SHORTEST = 4
"""Fewest characters of a secret that is masked wherever it occurs: shorter ones occur in any
text."""
TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[oprsu]_[A-Za-z0-9]{20,}|"
    r"github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|"
    r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]+)|(?<=Bearer )[\w.~+/-]{8,}"
)
"""Pattern of the access tokens of Hugging Face, AWS, GitHub, GitLab, OpenAI and Slack, of JSON Web
Tokens and of Bearer headers."""


def shown(text: str) -> str:
    """Return a text with its control characters as escapes and its secrets masked."""
    return escaped(redacted(text))


def escaped(text: str) -> str:
    """Return a text with its control characters as escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def redacted(text: str) -> str:
    """Return a text with its secrets masked.

    These are KEY=value where KEY is the name of a secret, user:password@ in an address, and tokens
    of a known form.
    """
    text = SETTING.sub(rf"\g<1>{MASKED}", text)
    return TOKEN.sub(MASKED, IN_ADDRESS.sub(rf"\g<1>{MASKED}@", text))


def redacted_yaml(text: str) -> str:
    """Return a YAML text with its secrets masked, those in lines KEY: value included."""
    return redacted(IN_YAML.sub(rf"\g<1>{MASKED}", text))


def secrets_given(arguments: Sequence[str]) -> list[str]:
    """Return the values that a command line gives to settings named like secrets, longest first.

    Args:
        arguments: the command line; malformed "KEY value" and "--KEY" before "value" count too.
    """
    found = []
    for argument, following in pairwise([*arguments, ""]):
        name, *values = re.split(r"[=:\s]+", argument.lstrip("+~-"), maxsplit=1)
        if SECRET_NAME.search(name):
            found.append(values[0] if values else following)
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def redacted_settings(value: Any, name: str = "") -> Any:
    """Return a tree of dicts, lists and values with its secrets masked.

    Args:
        name: name of the setting that has the value.
    """
    if isinstance(value, Mapping):
        return {key: redacted_settings(each, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted_settings(each, name) for each in value]
    if value is not None and SECRET_NAME.search(name):
        return MASKED
    return redacted(value) if isinstance(value, str) else value
