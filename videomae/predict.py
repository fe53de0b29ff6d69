"""Classify a video, or every video of a folder: print the five most probable classes.

    python -m videomae.predict weights=RUN_OR_FILE video=FILE_OR_DIR

weights= is a fine-tuned classifier of any released kind; the clip, the sampling and the classes are
its own. Each video is decoded once; the mean probability of its segments x crops views decides, as
in videomae.evaluate. The classes are printed and written as JSON. A file that cannot be read is
named there and counted (num_unreadable), and the rest goes on: the status is 0 if any video could
be classified, else 2. Hidden files and files that are no videos by their names are left out and
counted.

    output_dir=DIR                where the files go, by default the current directory
    output=predictions.json       JSON file, relative to output_dir; a whole path is taken as it is
    sheet=FILE.png                picture of the frames the model saw; sheet=DIR: one of each video
    segments=5 crops=3            views of a video: temporal x spatial positions
    class_names=FILE              line i names class i; default: the names that the weights hold
    sampling=segment              for released models trained so, as on Something-Something V2; the
                                  files of videomae.finetune say it themselves
    top=5                         number of classes
"""

import logging
from dataclasses import replace
from pathlib import Path

from videomae.config import PredictConfig
from videomae.run.command import command

logger = logging.getLogger("videomae.predict")


def predict(config: PredictConfig) -> None:
    """Classify config.video, or every video in that folder, and write the predictions."""
    from videomae.evaluation import predicting
    from videomae.lists.walk import clips_below, told
    from videomae.run.checks import require
    from videomae.run.run import open_run
    from videomae.video.opening import check_decoder
    from videomae.weights.formats import read_weights

    require(config, "weights", "video")
    check_decoder(config.decoder)
    selection = clips_below(Path(str(config.video)))
    clips = selection.clips
    predicting.check_outputs(config, len(clips))
    weights = read_weights(str(config.weights), num_heads=config.num_heads)
    name = weights.info.name
    classifier = predicting.classifier_of(config, weights)
    del weights
    data = replace(classifier.data, root=str(selection.root))
    with open_run(config.run, config.output_dir) as run:
        for line in (*classifier.told, *told(selection.left_out)):
            logger.info(line)
        model = classifier.model.to(run.device)
        found = predicting.predict_share(run, config, model, clips, classifier.head, data)
        parts = run.processes.gather(found)
        predicting.write_predictions(run, config, selection, classifier.head, name, parts)


main = command("predict")(predict)

if __name__ == "__main__":
    main()
