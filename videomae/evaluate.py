"""Evaluate a fine-tuned model on a labelled list: every test video over segments x crops.

    python -m videomae.evaluate +exp=ucf101 weights=RUN data.test_list=LIST data.root=VIDEOS

Takes every fine-tuning exp unchanged, and its overrides. Of an exp it takes the list, the root and
the views; model, frames, stride, size, sampling and classes are those of the weights. What the
weights do not hold, as an official .pth may not, comes from the exp, and the start says so. An
override on the command line, such as data.clip.stride=8, is used, and told as a difference.

Each video is decoded once; the mean probability of its views decides. A video that cannot be read
counts as wrong and is listed in bad_files.jsonl. Writes results.json, predictions.jsonl (the most
probable classes of each video) and figures/confusion.png to output_dir: outputs/NAME/evaluation
with name=NAME or an exp, else RUN/evaluation where weights=RUN is the directory of a run.

    data.prepared=DIR data.split=1  list, root and classes from python -m videomae.prepare
    data.split=all weights=DIR      every split with the weights of DIR/split1 ..., and their mean
    data.segments=5 data.crops=3    views of a video: temporal x spatial positions
    data.class_names=FILE           line i names class i, where the weights do not name them
    model.heads=N                   attention heads, where neither the weights nor a preset say
    overwrite=true                  replace the results that output_dir holds
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from videomae.config import EvaluateConfig
from videomae.run.command import command


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate the classifier at config.weights, or that of each split."""
    from videomae.data.trained_on import warn_of_seen
    from videomae.evaluation import saved_classifier
    from videomae.evaluation.run_of_weights import beside_its_run
    from videomae.evaluation.scoring import evaluate_model, hashes_of
    from videomae.evaluation.splits import config_of_splits, write_mean
    from videomae.run.given import given
    from videomae.run.run import open_run

    began = datetime.now().astimezone()
    told = given(config)
    config = beside_its_run(config, told)
    splits = config_of_splits(config, told)
    with open_run(config.run, config.output_dir) as all_splits:
        used = []
        for split in splits:
            run = replace(all_splits, directory=Path(split.output_dir))
            saved_classifier.check_evaluation(split)
            usage = saved_classifier.read_saved(split, told)
            test = saved_classifier.read_test_list(usage, told)
            model = saved_classifier.load_classifier(split, usage, test, told)
            weights_hash = usage.weights.sha256()
            del usage  # as large as the model
            used.append(replace(split, data=test.data, model=model.config))
            run.processes.barrier()  # every process has looked before anything changes
            if run.is_main:
                saved_classifier.begin_results(run, split, test.data, model.config, weights_hash)
            model.to(run.device)
            about = hashes_of(weights_hash, test.data, model.config)
            about["data"] = saved_classifier.name_of_data(split, test.data, told)
            seen = run.is_main and warn_of_seen(str(split.weights), test.clips, test.data.root)
            if seen:
                about["shared_with"] = seen
            evaluate_model(run, model, test, about)
            del model  # before that of the next split is read
        write_mean(all_splits, config, used, began)


main = command("evaluate")(evaluate)

if __name__ == "__main__":
    main()
