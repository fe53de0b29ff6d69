"""Text as people and logs get it: control characters as escapes, secrets masked.

File names, class names and messages may come from others, and could steer a terminal. Overrides and
addresses may hold a password or a token, which is not to stay in a log or a run directory.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

MASKED = "***"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but tab and line end; what turns the direction of writing; bytes that are not UTF-8."""
_SECRET = r"(?:token|secret|passw(?:or)?d|passphrase|credentials?|apikey|(?<![A-Za-z])key)"
SECRET_NAME = re.compile(rf"(?:^|[\w.-]*[._-]){_SECRET}$", re.IGNORECASE)
"""A setting of such a name holds a secret."""
_VALUE = r"""(?:'[^']*(?:'|\Z)|"[^"]*(?:"|\Z)|(?:[^\s'",;&})\]]|,(?=[^\s'"]))+)"""
"""Quoted, also where the end of the quote is missing; or up to what ends a word."""
SETTING = re.compile(
    rf"""(?<![A-Za-z])((?:[\w.-]*[._-])?{_SECRET}=(?!VALUE\b|\.\.)|  # KEY=value
    (?:api|access|secret|private|auth)[_-]?(?:key|token)['"]?\s*:\s*|  # {{API_KEY: value}}
    (?<=[{{,])\s*['"]?(?:[\w.-]*[._-])?{_SECRET}['"]?\s*:\s*)  # {{password: value}}
    {_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
IN_YAML = re.compile(
    rf"^([ ]*(?:-[ ])?['\"]?(?:[\w.-]*[._-])?{_SECRET}['\"]?:[ ]+)(?!null$).+$",
    re.IGNORECASE | re.MULTILINE,
)
"""A line of YAML whose key is named like a secret."""
IN_ADDRESS = re.compile(
    r"(\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2})"
    r"(?:[^/\s'\"]+@|[^/\s'\":@\[]+:(?!\d{1,5}\b)[^/\s'\"]+)"
)
"""Up to the last @ before the path, or user:password without one; a path has one slash."""
SHORTEST = 4
"""Characters of the shortest value that is masked wherever it stands: others are in any text."""
TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[oprsu]_[A-Za-z0-9]{20,}|"
    r"github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|"
    r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]+)|(?<=Bearer )[\w.~+/-]{8,}"
)
"""Of Hugging Face, AWS, GitHub, GitLab, OpenAI, Slack; and as web services give them out."""


def shown(text: str) -> str:
    """Return a text as any terminal and any log can show it, without secrets."""
    return escaped(redacted(text))


def escaped(text: str) -> str:
    """Return a text with its control characters as escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def redacted(text: str) -> str:
    """Mask what looks like a secret: KEY=value of such a name, user:password@ of an address, tokens
    of a known form."""
    text = SETTING.sub(rf"\g<1>{MASKED}", text)
    return TOKEN.sub(MASKED, IN_ADDRESS.sub(rf"\g<1>{MASKED}@", text))


def redacted_yaml(text: str) -> str:
    """Mask what looks like a secret in YAML: KEY: value of such a name, and what redacted masks."""
    return redacted(IN_YAML.sub(rf"\g<1>{MASKED}", text))


def secrets_given(arguments: Sequence[str]) -> list[str]:
    """Return the values that a command line gives to settings named like secrets, longest first.

    Args:
        arguments: also such as are malformed, "KEY value" or "--KEY" before "value".
    """
    found = []
    for argument, following in pairwise([*arguments, ""]):
        name, *values = re.split(r"[=:\s]+", argument.lstrip("+~-"), maxsplit=1)
        if SECRET_NAME.search(name):
            found.append(values[0] if values else following)
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def redacted_settings(value: Any, name: str = "") -> Any:
    """Return a tree of dicts, lists and values with what looks like a secret masked.

    Args:
        name: of the setting whose value it is.
    """
    if isinstance(value, Mapping):
        return {key: redacted_settings(each, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted_settings(each, name) for each in value]
    if value is not None and SECRET_NAME.search(name):
        return MASKED
    return redacted(value) if isinstance(value, str) else value
