"""Text as people and logs get it: control characters as escapes, secrets masked.

File names, class names and messages may come from others, and could steer a terminal. Overrides and
addresses may hold a password or a token, which is not to stay in a log or a run directory.
"""

import re
from collections.abc import Mapping
from typing import Any

MASKED = "***"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but tab and line end; what turns the direction of writing; bytes that are not UTF-8."""
_SECRET = r"(?:token|secret|passw(?:or)?d|passphrase|credentials?|apikey|(?<![A-Za-z])key)"
SECRET_NAME = re.compile(rf"(?:^|[\w.-]*[._-]){_SECRET}$", re.IGNORECASE)
"""A setting of such a name holds a secret."""
SETTING = re.compile(
    rf"""(?<![A-Za-z])((?:[\w.-]*[._-])?{_SECRET}=(?!VALUE\b|\.\.)|  # KEY=value
    (?:api|access|secret|private|auth)[_-]?(?:key|token)['"]?\s*:\s*)  # {{API_KEY: value}}
    (?:'[^']*'|"[^"]*"|[^\s'",;&}})\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)
IN_ADDRESS = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2})[^/\s'\"]+@")
"""Up to the last @ before the path; as a path an address has one slash."""
TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[oprsu]_[A-Za-z0-9]{20,}|"
    r"github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|"
    r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]+)|(?<=Bearer )[\w.~+/-]{8,}"
)
"""Of Hugging Face, AWS, GitHub, GitLab, OpenAI, Slack; and as web services give them out."""


def shown(text: str) -> str:
    """Return a text as any terminal and any log can show it, without secrets."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), redacted(text))


def redacted(text: str) -> str:
    """Mask what looks like a secret: KEY=value of such a name, user:password@ of an address, tokens
    of a known form."""
    text = SETTING.sub(rf"\g<1>{MASKED}", text)
    return TOKEN.sub(MASKED, IN_ADDRESS.sub(rf"\g<1>{MASKED}@", text))


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
