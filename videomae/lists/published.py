"""The published lists of the benchmarks: splits, parts, and the videos of each."""

from videomae.config import Dataset

TRAIN, VAL, TEST = PARTS = ("train", "val", "test")
"""The lists of a split."""
UNUSED = "unused"
"""The part of a video that is annotated, but in no list."""
SPLITS = (1, 2, 3)
PUBLISHED: dict[str, dict[int | None, dict[str, int]]] = {
    Dataset.ucf101: {
        1: {TRAIN: 9_537, TEST: 3_783},
        2: {TRAIN: 9_586, TEST: 3_734},
        3: {TRAIN: 9_624, TEST: 3_696},
    },
    Dataset.hmdb51: {split: {TRAIN: 3_570, TEST: 1_530} for split in SPLITS},
    Dataset.k400: {None: {TRAIN: 240_436, VAL: 19_796}},  # those of Kinetics: VideoMAE V2's lists
    Dataset.k600: {None: {TRAIN: 366_006, VAL: 27_935}},
    Dataset.k710: {None: {TRAIN: 658_340, VAL: 66_803}},
    Dataset.ssv2: {None: {TRAIN: 168_913, VAL: 24_777}},
}
"""Videos of the published lists, by split (None: there is one only) and part."""
CLASSES: dict[str, int] = {
    Dataset.ucf101: 101,
    Dataset.hmdb51: 51,
    Dataset.k400: 400,
    Dataset.k600: 600,
    Dataset.k710: 710,
    Dataset.ssv2: 174,
}
"""Classes of the published data sets."""
