"""The footage that a clip was cut from, as its name tells it, and splits that keep footage whole.

Clips of one recording look alike. Where some are trained on and others tested, the result says how
well the recording was remembered. So a split takes whole sources, where names tell them.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

YOUTUBE = re.compile(r"([\w-]{11})_(\d{1,6})_(\d{1,6})")
"""An id of eleven characters, and the times of a cut."""
COUNTED = re.compile(r".*\d[ _.-]*of[ _.-]+(.+)", re.IGNORECASE)
"""Names that count the clips of a recording, such as clip_012_of_beach."""
NUMBERED = re.compile(
    r"(.+?)[ _.-]+\(?(?:take|clip|part|segment|seg|scene|shot|chunk|cut|piece|[cpst])?"
    r"[ _.-]*\d+\)?",
    re.IGNORECASE,
)
"""Names that end in the number of a clip: beach_000123, v_Archery_g01_c02, beach (2)."""
WORDS = """
img vid mvi mov dsc dscn dscf gopr gh gp gx pxl movie movies video videos clip clips film films file
output out sample screen recording recordings screencast capture captures footage rec train test val
frame seq sequence scene shot part take untitled new whatsapp copy
vidéo vidéos enregistrement sans titre vídeo vídeos grabación gravação captura clipe sin título
registrazione filmato senza titolo aufnahme aufnahmen aufzeichnung bildschirmaufnahme ohne titel neu
opname filmpje inspelning optagelse opptak wideo nagranie filmik záznam felvétel videó înregistrare
tallenne видео видеозапись запись экрана ролик клип фильм відео запис ролік без названия назви
βίντεο kay\u0131t kayd\u0131 ekran rekaman klip bản ghi
動画 映像 ビデオ 録画 名称未設定 视频 視頻 影片 录像 錄影 录屏
屏幕录制 無題 未命名 동영상 영상 비디오 녹화
فيديو الفيديو تسجيل مقطع ویدیو فیلم ویڈیو וידאו סרטון הקלטה वीडियो ভিডিও วิดีโอ คลิป
"""
"""Words that cameras and programs put before a number, in several languages: no name of a
recording."""
BETWEEN_WORDS = re.compile(r"[\s_.,()\[\]-]+")
"""Pattern of the blanks and signs between the words of a file's name; vowel signs of Indian scripts
are none of them."""


class Labelled(NamedTuple):
    """A video that is to be put on one side of a split."""

    path: str
    label: int


def source_of(path: str, class_depth: int) -> str | None:
    """Return the source that a video's path tells; None where it tells none.

    Args:
        path: below the folder of videos, with slashes.
        class_depth: how many of its folders are those of split and class. Further ones are sources.
    """
    *folders, name = path.split("/")
    if inner := folders[class_depth:]:
        return "/".join(inner)
    stem = _stem(name)
    if found := YOUTUBE.fullmatch(stem):
        return found[1]
    found = COUNTED.fullmatch(stem) or NUMBERED.fullmatch(stem)
    return None if found is None or _says_nothing(found[1]) else found[1]


def _stem(path: str) -> str:
    """Return the name of a file without its ending, with accents encoded in one way."""
    name = path.rpartition("/")[2]
    return unicodedata.normalize("NFC", name.rpartition(".")[0] or name)


def _plain(text: str) -> str:
    """Return a text with accents encoded in one way, in no case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


SAYS_NOTHING = frozenset(_plain(WORDS).split())
"""WORDS, as `_plain` makes them."""


def _says_nothing(name: str) -> bool:
    """Tell whether a name is made of words of cameras and programs, or of a letter, alone."""
    words = filter(None, BETWEEN_WORDS.split(_plain(name)))
    return all(word in SAYS_NOTHING or re.fullmatch("[a-z]", word) for word in words)


def sources_of(videos: Sequence[Labelled], class_depth: int) -> dict[str, str | None]:
    """Return the source of each video, by its path; None where nothing tells it.

    A video that is named as the source of others, beach.mp4 beside beach_1.mp4, is of that source:
    they were cut from it. A name that counts clips in several classes may be a camera's, in a
    language that is not known here. It is believed only if at least half of those classes have
    another such name.

    Args:
        class_depth: as in `source_of`.
    """
    sources = {path: source_of(path, class_depth) for path, _ in videos}
    named = {path: _stem(path) for path in sources if path.count("/") <= class_depth}
    told = {sources[path] for path in named}
    ids = {found[1] for stem in named.values() if (found := YOUTUBE.fullmatch(stem))}
    for path, stem in named.items():
        if stem in ids or (sources[path] is None and stem in told):
            sources[path] = stem
    sizes = Counter(sources.values())
    classes, others = defaultdict(set), defaultdict(set)
    for path, label in videos:
        source = sources[path]
        if source is not None:
            if path.count("/") <= class_depth:
                classes[source].add(label)
            if sizes[source] > 1:
                others[label].add(source)
    doubtful = {
        source
        for source, labels in classes.items()
        if len(labels) > 1
        and 2 * sum(len(others[label] - {source}) > 0 for label in labels) < len(labels)
    }
    return {path: None if source in doubtful else source for path, source in sources.items()}


def held_out(
    videos: Sequence[Labelled],
    sources: Mapping[str, str | None],
    share: float,
    seen: Set[str] = frozenset(),
    *,
    sizes: Mapping[int, int] | None = None,
    salt: str = "",
) -> tuple[set[str], list[int]]:
    """Choose the videos of a test list: a share of each class, in whole sources.

    It depends on the names and the salt alone, so that several runs of one folder hold out the same
    videos. One video of a class at least stays.

    Args:
        sources: the source of each path.
        share: share of a class's size.
        seen: paths that should not be chosen, nor others of their sources. They are only for
            classes that have no others.
        sizes: size of each class by its label; None: its number of videos.
        salt: text that changes the choice.

    Returns:
        the paths, and the labels whose videos are all of one source, which had to be divided.
    """
    groups, divided = _groups(videos, sources)
    left = Counter(label for _, label in videos)
    sizes = sizes or Counter(left)
    need = {
        label: min(max(1, round(share * sizes[label])), count - 1) for label, count in left.items()
    }
    got: Counter[int] = Counter()
    chosen: set[str] = set()

    def take(group: list[Labelled], *, exact: bool) -> None:
        counts = Counter(label for _, label in group)
        wanted = any(
            got[label] < (need[label] if exact else min(1, need[label])) for label in counts
        )
        fits = all(left[label] > count for label, count in counts.items())
        over = any(got[label] + count > need[label] for label, count in counts.items())
        if wanted and fits and not (exact and over):
            chosen.update(path for path, _ in group)
            got.update(counts)
            left.subtract(counts)

    order = [groups[key] for key in shuffled(groups, salt)]
    known = [any(path in seen for path, _ in group) for group in order]
    for wish in (False, True):
        some = [group for group, is_known in zip(order, known, strict=True) if is_known is wish]
        for group in some:
            take(group, exact=True)
        rest = [group for group in some if group[0].path not in chosen]
        for group in sorted(rest, key=len):  # a class of large sources only
            take(group, exact=False)
        need = {label: 0 if got[label] else count for label, count in need.items()}
    return chosen, divided


def _groups(
    videos: Sequence[Labelled], sources: Mapping[str, str | None]
) -> tuple[dict[str, list[Labelled]], list[int]]:
    """Return the videos of each source, and the labels of one source only, which is divided."""
    of_class = defaultdict(set)
    for path, label in videos:
        of_class[label].add(sources[path] or path)
    sizes = Counter(label for _, label in videos)
    divided = sorted(label for label, own in of_class.items() if len(own) == 1 < sizes[label])
    groups: dict[str, list[Labelled]] = {}
    for video in videos:
        own = video.path if video.label in divided else sources[video.path] or video.path
        groups.setdefault(own, []).append(video)
    return groups, divided


def shuffled(names: Iterable[str], salt: str = "") -> list[str]:
    """Return names in a random order that depends on each name and the salt, on every machine."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}{name}".encode()).digest())
