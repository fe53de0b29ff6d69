"""The pre-training stage: VideoMAE on unlabelled clips, with reconstructions and a k-NN probe."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from videomae.config import Precision, PretrainConfig, token_grid
from videomae.data.checks import read_list, training_clips, warn_of_shared
from videomae.data.dataset import TrainingClips
from videomae.data.forgetting import warn_of_unmatched
from videomae.data.loader import Batch, single_examples
from videomae.data.mask import Masking
from videomae.evaluation.attention import draw_attention
from videomae.evaluation.probing import EpochProbe, probe_data
from videomae.lists.clips import ClipList
from videomae.model.flops import pretraining_flops
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.pictures.figures import (
    filmstrip,
    reconstruction_rows,
    save_loss_curve,
    save_reconstructions,
)
from videomae.run.checks import require
from videomae.run.directory import WEIGHTS
from videomae.run.log import RunLog
from videomae.run.record import made
from videomae.run.run import Run
from videomae.train.guards import PRETRAIN_PATIENCE, Level, Patience, StuckLoss, mean_loss
from videomae.train.objective import Reconstruct, objective_of
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel
from videomae.train.stage import TrainingStage
from videomae.train.start import check_run, starting_weights
from videomae.train.tuning import ModelPart
from videomae.weights.load import as_trained, load_all
from videomae.weights.weights import Kind, WeightsInfo, save_weights

logger = logging.getLogger(__name__)

SHOWN = 4
"""Number of clips in a picture of reconstructions."""


class Pretraining(TrainingStage):
    """Pre-training of VideoMAE V2, with masks for the encoder and for the decoder.

    Raises:
        ConfigError: a setting contradicts another, or videos are missing.
        ClipListError: a list cannot be read.
        WeightsError, CheckpointError: the weights or checkpoint to start from cannot be read.
        RunExistsError: the run directory holds another run.
    """

    pictures = True

    def __init__(self, run: Run, config: PretrainConfig) -> None:
        self.run = run
        self.checkpoint = check_run(config)
        self.clips = training_clips(config.data, labelled=False)
        self._weights, self._parents = starting_weights(config, self.checkpoint)
        if self._weights is not None:
            model = as_trained(config.model, self._weights.info, config.data.clip)
            config = replace(config, model=model)
        self.config: PretrainConfig = config
        self.probe = epoch_probe(run, config)
        probed = self.probe.lists.items() if self.probe else ()
        lists = {"data.train_list": self.clips}
        warn_of_unmatched(lists | {f"probe.{name}_list": clips for name, clips in probed})
        self.epochs_apart = config.probe.every_epochs if self.probe else 0
        self.masking = Masking(config.mask, token_grid(config.model, config.data.clip))
        self.flops = pretraining_flops(config.model, *self.masking.num_tokens())
        self.info = WeightsInfo(
            kind=Kind.pretrain,
            name=config.name,
            model=config.model,
            clip=config.data.clip,
            mask=config.mask,
            parents=self._parents,
        )

    def build(self) -> None:
        config, run = self.config, self.run
        torch.manual_seed(config.seed)
        self.model = VideoMAE(config.model, config.data.clip)
        if self._weights is not None:
            logger.info(f"{self._weights.path}: {load_all(self.model, self._weights)}")
            self._weights = None  # frees as much memory as the model takes
        self.distributed = DistributedModel(self.model.to(run.device), run.settings, run.processes)
        self.dataset = TrainingClips(
            self.clips, config.data, config.augment, self.masking, config.seed
        )
        self.objective = objective_of(self.model, config, lambda: Reconstruct(self.model))
        visible, decoded = self.masking.num_tokens()
        self.parts = {
            "encoder": ModelPart(self.model.encoder.blocks, visible),
            "decoder": ModelPart(self.model.decoder.blocks, visible + decoded),
        }

    def watch(self, plan: Plan) -> None:
        model = self.config.model
        if self.config.optim.objective is None and model.normalise_targets:
            patience = Patience(plan, PRETRAIN_PATIENCE, at_end=False)
            level = Level(
                mean_loss(model.tubelet, model.patch),
                "predicts_the_mean",
                "predicting the mean colours of each tubelet",
                f"nothing of the videos is learned yet at rates up to {plan.highest_lr:.3g}; give "
                "a larger optim.lr, or a smaller one where the loss has risen",
            )
            self.stuck_loss = StuckLoss(level, patience)

    def at_picture(self, log: RunLog, step: int, batch: Batch) -> None:
        """Log reconstructions of some of the step's clips to TensorBoard."""
        assert batch.mask is not None
        repeats = self.config.data.repeats
        one_of_each = slice(None, SHOWN * repeats, repeats)
        clip = normalise(batch.clip[one_of_each].to(self.run.device))
        mask, precision = batch.mask[one_of_each], self.run.settings.precision
        rows = reconstruction_rows(self.model, clip, mask, precision)  # by all processes
        strip = filmstrip([row[i] for i in range(len(clip)) for row in rows])
        log.image("reconstruction", strip, step)

    def at_epoch(self, log: RunLog, step: int, stop: Callable[[], bool]) -> None:
        """Run the k-NN probe on the current encoder, and log its top-1 accuracy."""
        assert self.probe is not None
        top1 = self.probe(self.distributed.whole(), stop)
        if top1 is not None:
            epoch = step / (len(self.clips) // self.config.optim.global_batch)
            log.numbers({"step": step, "epoch": epoch, "knn_top1": top1})
            logger.info(f"step {step}: k-NN top-1 {top1:.2f} % on probe.test_list")

    def at_end(self, log: RunLog, step: int) -> None:
        """Write the weights, the loss curve and a picture of reconstructions."""
        trained, directory = self.distributed.whole(), self.run.directory
        if self.run.is_main:
            file = made(directory, WEIGHTS)
            save_weights(file, trained.state_dict(), replace(self.info, step=step))
            save_loss_curve(directory)
            picture = made(directory, "figures/reconstruction.png")
            draw_reconstructions(trained, self.dataset, picture, self.run.settings.precision)
            attention = made(directory, "figures/attention.png")
            precision = self.run.settings.precision
            draw_attention(trained, self.clips, self.dataset.parts, attention, precision)
            logger.info(f"weights: {file}   pictures: {directory / 'figures'}")
        self.run.processes.barrier()


def epoch_probe(run: Run, config: PretrainConfig) -> EpochProbe | None:
    """Make the k-NN probe that config.probe asks for; None: it asks for none.

    Raises:
        ConfigError: a list of the probe is not given, or its videos are missing.
        ClipListError: a list cannot be read.
    """
    probe = config.probe
    if probe.every_epochs == 0:
        return None
    require(config, "probe.train_list", "probe.test_list", "probe.root", "probe.classes")
    data = probe_data(probe, config.data)

    def clips_of(name: str) -> ClipList:
        return read_list(str(getattr(probe, name)), data, labelled=True, key=f"probe.{name}")

    train, test = clips_of("train_list"), clips_of("test_list")
    warn_of_shared(test, "probe.test_list", {"probe.train_list": train})
    return EpochProbe(run, probe, train, test, data)


def draw_reconstructions(
    model: VideoMAE, dataset: TrainingClips, path: Path, precision: Precision
) -> None:
    """Save a picture of the trained model's reconstructions of a few clips across the list."""
    kept = dataset.clips.kept().tolist()
    places = kept[:: max(1, len(kept) // SHOWN)]
    batches = [batch for batch in single_examples(dataset, places[:SHOWN]) if not batch.bad]
    if not batches:
        return
    device = next(model.parameters()).device
    clip = normalise(torch.stack([batch.clip[0] for batch in batches]).to(device))
    masks = torch.stack([batch.mask[0] for batch in batches if batch.mask is not None])
    rows = reconstruction_rows(model, clip, masks, precision)
    save_reconstructions(path, rows, f"{model.config.name}: clips of the training list")
