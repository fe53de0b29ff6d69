"""The benchmarks in miniature: real little videos under official names, and official annotation
files with all their quirks.

Each function writes a data set below `root` and says what it is:

    mini = ucf101(tmp_path, splits=3)
    call("prepare", *mini.overrides, f"out={tmp_path / 'lists'}")

Videos are of FRAMES frames of 48 x 64 px; a class has a colour of its own, so that a tiny model can
learn to tell classes.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

FRAMES = 8
CODECS = {".avi": "mpeg4", ".mp4": "libx264", ".webm": "libvpx-vp9"}
"""Of a video, by its ending."""
UCF101 = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
UCF101_GROUPS = {1: range(1, 3), 2: range(3, 5), 3: range(5, 7)}
"""Groups of the test list of each split; training lists hold the rest of g01 to g08."""
HMDB51 = {
    "brush_hair": "Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_0",
    "clap": "#20_Rhythm_clap_u_nm_np1_fr_goo_0",
    "fall_floor": "BATMAN_BEGINS;_(2005)&+~@_fall_floor_f_cm_np1_ba_bad_12",
}
"""A file name of each class, with the punctuation that they come with."""
KINETICS = (
    "abseiling",
    "massaging person's head",
    "passing American football (in game)",
    'playing "bass" guitar',
)
SSV2 = (
    "Putting [something] on a surface",
    "Pushing [something] from left to right",
    'Pretending to put [something] "into" [something]',
)


@dataclass(frozen=True)
class Miniature:
    """A data set on disk."""

    dataset: str
    videos: Path
    annotations: Path | None
    classes: tuple[str, ...]
    """In the order of their numbers."""
    counts: Mapping[tuple[int | None, str], int]
    """Videos by split (None: there is one only) and part."""

    @property
    def overrides(self) -> list[str]:
        """What prepare is called with, less out."""
        given = [f"dataset={self.dataset}", f"videos={self.videos}"]
        return given + ([f"annotations={self.annotations}"] if self.annotations else [])


def write_clip(path: Path, colour: int = 0, *, frames: int = FRAMES, seed: int = 0) -> Path:
    """A real video, in the container that its ending says, over noise of one of many colours."""
    return write_images(path, _images(colour, frames, seed))


def write_images(path: Path, images: np.ndarray) -> Path:
    """A real video of these frames, (T, H, W, 3) uint8, in the container that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(CODECS[path.suffix], rate=25, options={"mbtree": "0"})
        stream.codec_context.thread_count = 1  # and so the bytes are always the same
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, colour: int = 0, template: str = "img_{:05}.jpg") -> Path:
    """A folder of extracted frames, counted from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(_images(colour, FRAMES, 0), start=1):
        Image.fromarray(image).save(folder / template.format(number))
    return folder


def _images(colour: int, frames: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([colour, seed])
    noise = rng.integers(0, 64, (frames, 6, 8, 3), dtype=np.uint8)
    tint = np.array([colour & 1, colour >> 1 & 1, colour >> 2 & 1], dtype=np.uint8) * 160
    return (noise + tint).repeat(8, axis=1).repeat(8, axis=2)


def write_lines(path: Path, lines: Sequence[str], end: str = "\n") -> Path:
    """Text with the line ends of the original."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def ucf101(root: Path, splits: int = 3) -> Miniature:
    """3 classes of 8 groups of one clip. CRLF; labels from 1; HandStandPushups in the stem."""
    classes = {name: number for number, name in enumerate(UCF101)}
    paths: dict[str, dict[int, str]] = {name: {} for name in classes}
    for name, label in classes.items():
        stem = name.replace("Handstand", "HandStand")
        for group in range(1, 9):
            paths[name][group] = f"{name}/v_{stem}_g{group:02}_c01.avi"
            write_clip(root / "UCF-101" / paths[name][group], label, seed=group)
    folder, counts = root / "ucfTrainTestlist", {}
    write_lines(folder / "classInd.txt", [f"{i + 1} {n}" for n, i in classes.items()], "\r\n")
    for split in range(1, splits + 1):
        test = [p[g] for p in paths.values() for g in p if g in UCF101_GROUPS[split]]
        train = [
            f"{path} {classes[name] + 1}"
            for name, groups in paths.items()
            for group, path in groups.items()
            if group not in UCF101_GROUPS[split]
        ]
        write_lines(folder / f"trainlist{split:02}.txt", train, "\r\n")
        write_lines(folder / f"testlist{split:02}.txt", test, "\r\n")
        counts |= {(split, "train"): len(train), (split, "test"): len(test)}
    return Miniature("ucf101", root / "UCF-101", folder, UCF101, counts)


def hmdb51(root: Path, splits: int = 3) -> Miniature:
    """3 classes: each split has 3 training and 1 test video of a class, and 1 that is unused."""
    folder = root / "testTrainMulti_7030_splits"
    for label, (name, stem) in enumerate(HMDB51.items()):
        files = [f"{stem}{number}.avi" for number in range(5)]
        for number, file in enumerate(files):
            write_clip(root / "hmdb51" / name / file, label, seed=number)
        for split in range(1, splits + 1):
            marks = {(split - 1) % 5: 2, split % 5: 0}
            lines = [f"{file} {marks.get(number, 1)} " for number, file in enumerate(files)]
            write_lines(folder / f"{name}_test_split{split}.txt", lines)
    counts = {}
    for split in range(1, splits + 1):
        counts |= {(split, "train"): 9, (split, "test"): 3}
    return Miniature("hmdb51", root / "hmdb51", folder, tuple(HMDB51), counts)


def kinetics(root: Path, dataset: str = "k400", *, is_cc: bool = False) -> Miniature:
    """4 classes of 2 training and 1 validation videos; a test CSV without labels with is_cc.

    With is_cc (the original release) videos lie in train/ and val/, named by id alone; without
    it in class folders, named by id and times.
    """
    files: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(KINETICS):
        for number, part in enumerate(("train", "train", "val")):
            video, start = f"-_{label}{number}abcdefgh", 7 * number
            quoted = '"' + name.replace('"', '""') + '"'
            cc = ",0" if is_cc else ""
            files[part].append(f"{quoted},{video},{start},{start + 10},{part}{cc}")
            folder = name.replace(" ", "_").replace('"', "")
            path = (
                f"{part}/{video}.mp4"
                if is_cc
                else f"{folder}/{video}_{start:06}_{start + 10:06}.mp4"
            )
            write_clip(root / "videos" / path, label, seed=number)
    header = "label,youtube_id,time_start,time_end,split"
    annotations = root / "annotations"
    if is_cc:
        write_clip(root / "videos/test/TESTabcdefgh.mp4")
        tests = ["youtube_id,time_start,time_end,split,is_cc", "TESTabcdefgh,0,10,test,0"]
        write_lines(annotations / "test.csv", tests)
    for part in ("train", "val"):
        lines = [header + (",is_cc" if is_cc else ""), *files[part]]
        write_lines(annotations / f"{part}.csv", lines)
    counts = {(None, "train"): 8, (None, "val"): 4}
    return Miniature(dataset, root / "videos", annotations, KINETICS, counts)


def k710(root: Path, *, label_map: bool = True) -> Miniature:
    """VideoMAE V2's space-separated lists, over folders of two data sets; the map is not sorted and
    does not end its last line."""
    classes = ("riding a bike", "abseiling", "yoga")
    files: dict[str, list[str]] = {"train": [], "val": []}
    for source in ("k400", "k700"):
        for label in range(len(classes)):
            for part in files:
                path = f"{source}/{part}/same{part}{label}.mp4"  # one name in two data sets
                write_clip(root / "videos" / path, label)
                files[part].append(f"{path} {label}")
    for part, lines in files.items():
        write_lines(root / "lists" / f"{part}.csv", lines)
    if label_map:
        (root / "lists/label_map_k710.txt").write_text("\n".join(classes))
    names = classes if label_map else tuple(map(str, range(len(classes))))
    counts = {(None, part): len(lines) for part, lines in files.items()}
    return Miniature("k710", root / "videos", root / "lists", names, counts)


def ssv2(root: Path, *, newer: bool = False, frames: bool = False) -> Miniature:
    """3 templates of 2 training and 1 validation videos, and a test video.

    Args:
        newer: files named as in the newer download, labels.json and so on.
        frames: folders of extracted frames in place of videos.
    """
    parts: dict[str, list[dict[str, object]]] = {"train": [], "validation": [], "test": []}
    for label, template in enumerate(SSV2):
        for number, part in enumerate(("train", "train", "validation")):
            video = str(100 + 10 * label + number)
            entry = {"id": video, "label": template.replace("[something]", "a cup")}
            parts[part].append(entry | {"template": template, "placeholders": ["a cup"]})
    parts["test"].append({"id": "999"})
    for label, entries in enumerate(parts.values()):
        for entry in entries:
            video = root / "videos" / str(entry["id"])
            colour = (int(str(entry["id"])) - 100) // 10 if label < 2 else 0
            if frames:
                write_frames(video, colour)
            else:
                write_clip(video.with_suffix(".webm"), colour, seed=int(video.name))
    prefix, folder = "" if newer else "something-something-v2-", root / "labels"
    names = tuple(name.replace("[", "").replace("]", "") for name in SSV2)
    numbered = {name: str(label) for label, name in enumerate(names)}
    for name, content in (parts | {"labels": numbered}).items():
        write_lines(folder / f"{prefix}{name}.json", [json.dumps(content, indent=0)])
    if newer:
        write_lines(folder / "test-answers.csv", ["999;Putting something on a surface"])
    counts = {(None, "train"): 6, (None, "val"): 3}
    return Miniature("ssv2", root / "videos", folder, names, counts)


def folders(root: Path, per_class: int = 5) -> Miniature:
    """Your own: a folder per class, with blanks in names."""
    classes = ("jumping jack", "# hashtag", "Zumba")
    for label, name in enumerate(classes):
        for number in range(per_class):
            write_clip(root / "own" / name / f"my clip {number}.mp4", label, seed=number)
    counts = {(None, "train"): per_class * len(classes)}
    return Miniature("folders", root / "own", None, tuple(sorted(classes)), counts)


def csv(root: Path, per_class: int = 5) -> Miniature:
    """Your own: rows path,class name, one of them quoted."""
    classes, lines = ("clap, twice", "wave"), ["path,class"]
    for label, name in enumerate(classes):
        for number in range(per_class):
            path = f"day {number}/{'ab'[label]}.mp4"
            write_clip(root / "own" / path, label, seed=number)
            lines.append(f'{path},"{name}"')
    file = write_lines(root / "own.csv", lines, "\r\n")
    counts = {(None, "train"): per_class * len(classes)}
    return Miniature("csv", root / "own", file, classes, counts)


def odd_folder(root: Path, video: Path) -> list[str]:
    """A folder of what people have beside their videos, and twice a copy of `video`.

    Returns:
        the printable names of the three entries that cannot be used.
    """
    (root / "deep").mkdir(parents=True)
    content = video.read_bytes()
    for name in ("good.mp4", "._good.mp4", "deep/ Übung 1.MP4"):
        (root / name).write_bytes(content)
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    (root / "unmounted").symlink_to("/no/such/disk")
    (root / "deep/up").symlink_to(root)
    (root / "notes.txt").write_text("no video")
    os.mkfifo(root / "pipe.mp4")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.mp4")).write_bytes(content)
    return [r"caf\udce9.mp4", "gone.mp4", "unmounted"]
