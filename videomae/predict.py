"""Classify a video, or every video of a folder: print the five most probable classes.

    python -m videomae.predict weights=RUN_OR_FILE video=FILE_OR_DIR

weights= is a fine-tuned classifier of any released kind. Each video is decoded once; the mean
probability of its segments x crops views decides, as in videomae.evaluate. The classes are printed
and written as JSON. A file that cannot be read is named, and the command ends with status 1;
hidden files and files that are no videos by their names are left out and counted.

    output=predictions.json       JSON file to write
    sheet=FILE.png                picture of the frames the model saw; sheet=DIR: one of each video
    segments=5 crops=3            views of a video: temporal x spatial positions
    class_names=FILE              line i names class i; default: the names that the weights hold
    sampling=segment              for released models trained so, as on Something-Something V2; the
                                  files of videomae.finetune say it themselves
    top=5                         number of classes
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path

from videomae.config import CLASS, DataConfig, PredictConfig, Sampling
from videomae.run.command import command

logger = logging.getLogger("videomae.predict")


def predict(config: PredictConfig) -> None:
    """Classify config.video, or every video in that folder, and write the predictions."""
    from videomae.evaluation import predicting
    from videomae.evaluation.heads import head_of, target_of
    from videomae.lists.walk import clips_below, told
    from videomae.model.classifier import VideoClassifier
    from videomae.run.checks import require
    from videomae.run.run import open_run
    from videomae.video.opening import check_decoder
    from videomae.weights.formats import read_weights
    from videomae.weights.load import check_kind, model_of
    from videomae.weights.weights import Kind

    require(config, "weights", "video")
    check_decoder(config.decoder)
    selection = clips_below(Path(str(config.video)))
    clips = selection.clips
    predicting.check_outputs(config, len(clips))
    weights = read_weights(str(config.weights), num_heads=config.num_heads)
    check_kind(weights, Kind.classifier)
    info = weights.info
    target = target_of(info, config.target or CLASS, "target")
    head = head_of(info, predicting.names_of(config, info), target, "target")
    model, report = model_of(weights)
    assert isinstance(model, VideoClassifier)
    data = DataConfig(
        clip=replace(info.clip, stride=config.stride or info.clip.stride),
        root=str(selection.root),
        sampling=config.sampling or info.sampling or Sampling.dense,
        segments=config.segments,
        crops=config.crops,
        decoder=config.decoder,
    )
    with open_run(config.run, Path(config.output).parent) as run:
        logger.info(f"{weights.path}: {report}")
        for line in told(selection.left_out):
            logger.info(line)
        if target == CLASS and info.class_names is None and config.class_names is None:
            logger.info(
                "the weights do not name their classes, which go by number: class_names=FILE"
            )
        del weights
        model.to(run.device)
        found = predicting.predict_share(run, config, model, clips, head, data)
        whole = predicting.write_predictions(
            run, config, selection, head, info.name, run.processes.gather(found)
        )
    if not whole:
        sys.exit(1)


main = command("predict")(predict)

if __name__ == "__main__":
    main()
