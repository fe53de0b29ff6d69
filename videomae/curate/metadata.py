"""Metadata of downloaded videos: the .info.json that yt-dlp writes beside a video.

Only a few fields are read. What is malformed is named and counted, and leaves its column null; the
name of an uploader is never kept, only a salted hash of it.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from videomae.run.files import read_json

INFO = ".info.json"
HASHTAG = re.compile(r"""#([^\s#.,;:!?()\[\]{}"'`<>/\\|@*&^%+=~$…]+)""")
"""Pattern of a hashtag in a text: letters of any script, digits, _ and emoji."""
VARIATION = "\ufe0e\ufe0f"
"""Selectors after an emoji, which writers of the same hashtag leave out or not."""
MOST_HASHTAGS = 1000
"""Largest number of hashtags of a video; more are a mistake of its metadata."""
MOST_TEXT = 500
"""Largest number of characters of an id, a licence or a hashtag that is kept."""
UPLOADER = ("uploader_id", "channel_id", "uploader", "channel")
"""Fields that tell uploaders apart, the most certain first."""
MALFORMED, TOO_LARGE, MISSING = "malformed", "too large", "missing"


@dataclass
class Metadata:
    """Metadata of one video; None where it is not known."""

    platform: str | None = None
    video_id: str | None = None
    hashtags: list[str] | None = None
    """Hashtags without #, normalised, in the order of their first mention."""
    views: int | None = None
    uploaded: str | None = None
    """Date of the upload, YYYY-MM-DD."""
    licence: str | None = None
    uploader_hash: str | None = None
    problems: list[str] = field(default_factory=list)
    """Fields that are malformed, or a word about the whole file."""


def info_file(video: Path) -> Path | None:
    """Return the .info.json beside a video; None if there is none."""
    if not video.name:  # such as /
        return None
    for file in (video.with_suffix(INFO), video.with_name(video.name + INFO)):
        if os.path.isfile(file):
            return file
    return None


def read_metadata(file: Path | None, salt: str) -> Metadata:
    """Read the metadata of a video.

    Args:
        file: its .info.json; None: there is none.
        salt: secret text that the name of an uploader is hashed with.
    """
    if file is None:
        return Metadata(problems=[MISSING])
    try:
        info = read_json(file)
    except (OSError, ValueError) as error:
        large = "bytes of JSON" in str(error)
        return Metadata(problems=[TOO_LARGE if large else MALFORMED])
    if not isinstance(info, Mapping):
        return Metadata(problems=[MALFORMED])
    return _parsed(info, salt)


def _parsed(info: Mapping[str, Any], salt: str) -> Metadata:
    found = Metadata()
    platform = _text(info, found, "extractor_key", "extractor")
    found.platform = platform.lower().partition(":")[0] if platform else None
    found.video_id = _text(info, found, "id")
    found.licence = _text(info, found, "license")
    found.views = _views(info, found)
    found.uploaded = _date(info, found)
    uploader = _text(info, found, *UPLOADER)
    if uploader:
        found.uploader_hash = hashed(f"{found.platform}:{uploader}", salt)
    found.hashtags = _hashtags(info, found)
    return found


def hashed(name: str, salt: str) -> str:
    """Return a salted hash of a name, which cannot be turned back without the salt."""
    key = hashlib.sha256(salt.encode()).digest()
    return hashlib.blake2b(name.encode(), key=key, digest_size=16).hexdigest()


def _text(info: Mapping[str, Any], found: Metadata, *names: str) -> str | None:
    """Return the first of some fields that is there; a value that is no text is a problem."""
    for name in names:
        value = info.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and len(value) <= MOST_TEXT:
            return _clean(value)
        found.problems.append(name)
    return None


def _clean(text: str) -> str:
    """Return a text without halves of characters, which no file of UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _views(info: Mapping[str, Any], found: Metadata) -> int | None:
    value = info.get("view_count")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is None or (whole and 0 <= value < 2**53):
        return value
    found.problems.append("view_count")
    return None


def _date(info: Mapping[str, Any], found: Metadata) -> str | None:
    value = info.get("upload_date")
    if value is None:
        return None
    try:
        return datetime.strptime(value, "%Y%m%d").date().isoformat()
    except (TypeError, ValueError):
        found.problems.append("upload_date")
        return None


def _hashtags(info: Mapping[str, Any], found: Metadata) -> list[str]:
    """Return the hashtags in title and description, and the tags that are single words."""
    given: list[str] = []
    for name in ("title", "description"):
        value = info.get(name)
        if isinstance(value, str):
            given += hashtags_in(value)
        elif value is not None:
            found.problems.append(name)
    tags = info.get("tags")
    if isinstance(tags, list):
        words = [tag for tag in tags[:MOST_HASHTAGS] if isinstance(tag, str)]
        if len(words) < len(tags):
            found.problems.append("tags")
        given += [word for word in words if not re.search(r"\s", word.strip())]
    elif tags is not None:
        found.problems.append("tags")
    return unique(given)


def hashtags_in(text: str) -> list[str]:
    """Return the hashtags in a text, as they are written there."""
    return HASHTAG.findall(unicodedata.normalize("NFKC", _clean(text)))[:MOST_HASHTAGS]


def unique(hashtags: Iterable[str]) -> list[str]:
    """Return hashtags normalised, each once."""
    return list(dict.fromkeys(filter(None, map(normalised, hashtags))))


def normalised(hashtag: str) -> str:
    """Return a hashtag in the form in which equal ones are equal: without #, NFKC, case folded."""
    text = unicodedata.normalize("NFKC", _clean(hashtag)).strip().lstrip("#")
    return unicodedata.normalize("NFKC", text.casefold()).translate(
        dict.fromkeys(map(ord, VARIATION))
    )[:MOST_TEXT]
