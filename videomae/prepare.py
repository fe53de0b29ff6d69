"""Make clip lists of a data set from its official annotation files and its videos.

    python -m videomae.prepare dataset=ucf101 videos=DIR annotations=DIR out=DIR
    python -m videomae.prepare dataset=folders videos=DIR out=DIR val_fraction=0.1
    python -m videomae.prepare dataset=csv videos=DIR annotations=FILE out=DIR test_fraction=0.2

dataset is ucf101, hmdb51, k400, k600, k710, ssv2, or one of your own: folders (one per class, with
train, val and test above them or without), or csv (rows path,class name or path,class number).
Annotation files are read as they come; videos, or folders of extracted frames, are found wherever
they lie below videos=DIR. Written are out/split1/train.txt and test.txt (hmdb51 and ucf101: splits
1 to 3), out/train.txt and val.txt (the others), and out/classes.txt, whose line i names class i. To
train on them:

    python -m videomae.finetune +exp=ucf101 data.prepared=DIR data.split=1 weights=W

Counts are compared with the published ones; what is missing, extra, empty or listed twice is left
out and named in out/problems.jsonl, which also counts the files that are no videos. A video in both
train and test is an error.

    scan=quick|strict                 quick: leave out videos whose first, middle or last frame
                                      cannot be read; strict: decode all of each, as
                                      videomae.scan does. The same command goes on
    workers=N timeout_s=600           processes of a scan; a video that takes longer is left out
    val_groups=N                      ucf101: so many groups of each class go from train to val
    val_fraction=F test_fraction=F    your own: shares of each class that go to val and test, in
                                      whole recordings where names tell them (g01_c02, beach_3)
    seed=N                            chooses them
    strict=true                       counts other than the published ones are an error
    overwrite=true                    replace the lists in out
"""

import logging
import os
import shlex
from dataclasses import replace
from pathlib import Path

from videomae.config import ConfigError, Dataset, PrepareConfig, Scan
from videomae.run.command import command
from videomae.run.console import log_to_console

logger = logging.getLogger("videomae.prepare")


@log_to_console()
def prepare(config: PrepareConfig) -> None:
    """Write the clip lists of config.dataset, and the problems that were found."""
    from videomae.lists import preparing
    from videomae.lists.divide import divided
    from videomae.lists.matching import IN_TWO_PARTS, classes_without_videos, left_out, match
    from videomae.lists.prepared_files import check_unprepared, write_lists
    from videomae.run.checks import check_place, require
    from videomae.video.screening import without_damaged

    more = () if config.dataset in (None, Dataset.folders) else ("annotations",)
    require(config, "dataset", "videos", "out", *more)
    assert config.dataset is not None
    out, root = Path(str(config.out)), Path(str(config.videos))
    check_place("out", out)
    check_unprepared(out, overwrite=config.overwrite)
    if not os.path.isdir(root):
        raise ConfigError(f"videos={root} is a file: give the folder below which the videos lie")

    located, annotations = preparing.read_dataset(config, root)
    annotations = divided(annotations, config)
    lists = match(annotations, located, root)
    preparing.check_found(lists, annotations, root)
    if config.scan is not Scan.off and not lists.of_kind(IN_TWO_PARTS):  # which is an error anyway
        lists = without_damaged(lists, located, config, root, out)
    problems = [*lists.problems, *classes_without_videos(annotations, lists)]
    lists = replace(lists, problems=problems)

    file = preparing.write_problems(out, problems + left_out(located.below))
    preparing.print_counts(lists, annotations, located, config.dataset, file)
    preparing.check_lists(lists, annotations, config, file)
    write_lists(lists, annotations, located, config, out)
    splits = " data.split=1" if None not in annotations.splits else ""
    logger.info(
        f"{out}: lists written; use them with {shlex.quote(f'data.prepared={out}')}{splits}"
    )


main = command("prepare")(prepare)

if __name__ == "__main__":
    main()
