"""Fine-tune pre-trained weights for action recognition, then evaluate the result.

    python -m videomae.finetune +exp=ucf101 weights=W data.train_list=L data.test_list=L data.root=D
    torchrun --nproc-per-node 8 -m videomae.finetune +exp=ucf101 run=node8 weights=W data...

weights=PATH is a run directory or its weights.safetensors, an official .pth, or a DeepSpeed or
Hugging Face directory: pre-trained, or fine-tuned (the head is replaced where the classes differ).
weights=scratch starts from random weights. What was loaded, missing and unexpected is printed, and
a partial encoder is an error. Other overrides:

    data.train_list=FILE data.test_list=FILE   "path label" on each line, relative to data.root
    data.prepared=DIR data.split=1             all of these, from python -m videomae.prepare
    data.classes=N data.class_names=FILE       how many classes; line i names class i
    data.segments=5 data.crops=3               views of a test video
    head_map=FILE                              JSON list: row of the weights' head for each class
    output_dir= resume= overwrite= max_steps= seed= model= run=   as in python -m videomae.pretrain

The run directory then holds results.json and figures/confusion.png.
"""

from dataclasses import replace
from pathlib import Path

import torch

from videomae.checks import (
    check_run,
    check_videos,
    require,
    starting_weights,
    training_clips,
)
from videomae.config import FinetuneConfig
from videomae.data.clips import class_names, read_clips
from videomae.data.dataset import TrainingClips
from videomae.data.prepared import with_prepared
from videomae.evaluate import evaluate_model
from videomae.model.classifier import VideoClassifier
from videomae.model.load import as_trained, load_encoder, pick_classes
from videomae.model.weights import FILE_NAME, Kind, WeightsInfo, save_weights
from videomae.report.console import Say
from videomae.report.figures import save_loss_curve
from videomae.run import exit_if_stopped, plan_run, train_run
from videomae.schema import command
from videomae.train.objective import Classify
from videomae.train.parallel import processes


def finetune(config: FinetuneConfig) -> None:
    """One fine-tuning run and its evaluation, as `config` says."""
    config = replace(config, data=with_prepared(config.data))
    data = config.data
    require(
        {
            "data.train_list": data.train_list,
            "data.test_list": data.test_list,
            "data.root": data.root,
            "data.classes": data.classes,
            "weights": config.weights,
        }
    )
    with processes(config.run) as process:
        say = Say(process.is_main)
        checkpoint = check_run(config)
        names = class_names(data)
        clips = training_clips(data, labelled=True)
        test_clips = read_clips(str(data.test_list), data, labelled=True, key="data.test_list")
        check_videos(test_clips, data, "data.test_list")
        weights, parents = starting_weights(config, checkpoint)
        if weights is not None:
            model_config = as_trained(config.model, weights.info, data.clip)
            config = replace(config, model=model_config)
        plan = plan_run(config, clips, process, say)
        say.line(
            f"classes: {len({clip.label for clip in clips})} of {len(names)} in the training list"
        )

        torch.manual_seed(config.seed)
        model = VideoClassifier(
            config.model,
            data.clip,
            len(names),
            drop_path=config.optim.drop_path,
            head_drop=config.optim.head_drop,
        )
        if weights is not None:
            if config.head_map is not None:
                weights = pick_classes(weights, config.head_map)
            say.line(f"{weights.path}: {load_encoder(model, weights, names)}")
            del weights  # as large as the model
        model.to(process.device)

        dataset = TrainingClips(clips, data, config.augment, None, config.seed)
        objective = Classify(model, config.optim.label_smoothing)
        outcome = train_run(config, objective, dataset, plan, checkpoint, parents, process, say)
        directory = Path(config.output_dir)
        if outcome.finished and process.is_main:
            info = WeightsInfo(
                kind=Kind.classifier,
                name=config.name,
                step=outcome.step,
                model=config.model,
                clip=data.clip,
                classes=len(names),
                class_names=names,
                drop_path=config.optim.drop_path,
                head_drop=config.optim.head_drop,
                parents=parents,
            )
            save_weights(directory / FILE_NAME, model.state_dict(), info)
            save_loss_curve(directory)
        if outcome.finished:
            evaluate_model(model, test_clips, names, data, config.run, directory, process, say)
    exit_if_stopped(outcome)


main = command("finetune")(finetune)

if __name__ == "__main__":
    main()
