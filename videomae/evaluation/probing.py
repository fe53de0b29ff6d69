"""Fitting of heads on frozen features, and the k-NN probe during pre-training."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videomae.config import (
    DataConfig,
    EpochProbeConfig,
    ListConfig,
    Sampling,
    UserError,
)
from videomae.evaluation.features import FeatureExtractor, mean_features
from videomae.evaluation.probes import knn_probs
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.model.mae import VideoMAE
from videomae.run.console import progress_bar
from videomae.run.rates import warmup_cosine
from videomae.run.run import Run

logger = logging.getLogger(__name__)

HELD_OUT = 5
"""One in this many training videos is held out to choose the learning rate."""
WARMUP = 20
"""One in this many steps, at the start, has a rising learning rate."""


class ProbeError(UserError):
    """An error: there are too few videos to fit a probe on."""


@dataclass(frozen=True)
class Views:
    """The features of R views and their labels."""

    take: Callable[[Tensor], Tensor]
    """Function that returns features: row numbers (B,) int64 -> (B, D) or (B, N, D) float32."""
    labels: Tensor
    """Labels of the views, (R,) int64."""


@dataclass(frozen=True)
class Recipe:
    """Settings of fitting a head: AdamW with a cosine schedule after a short warm-up."""

    epochs: int
    batch: int
    weight_decay: float
    seed: int
    min_steps: int = 1
    """Smallest number of steps; for a short list, epochs are added."""
    name: str = "head"
    """Name of what is fitted, for the log."""

    def passes(self, rows: int) -> int:
        """Return the number of epochs over this many rows."""
        return max(self.epochs, math.ceil(self.min_steps / math.ceil(rows / self.batch)))


@dataclass(frozen=True)
class Chosen:
    """A fitted head, and the choice of its learning rate."""

    head: nn.Module
    lr: float
    held_out_top1: dict[float, float]
    """Top-1 accuracy of each learning rate on the held-out views, in percent; empty if only one
    rate was given."""
    num_held_out: int
    """Number of training videos on which the learning rate was chosen."""


def fit(
    make: Callable[[], nn.Module],
    views: Views,
    rows: Tensor,
    lrs: Sequence[float],
    recipe: Recipe,
    device: torch.device,
) -> list[nn.Module]:
    """Fit one head for each learning rate, all from the same initial weights, on the same batches.

    Args:
        make: function that makes a head with random weights.
        rows: (R',) int64, row numbers of the views to fit on.

    Returns:
        The heads in eval mode on `device`, in the order of `lrs`.
    """
    heads = nn.ModuleList()
    for _ in lrs:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(recipe.seed)
            heads.append(make())
    heads.to(device).train()
    groups = [
        {"params": list(head.parameters()), "lr": lr} for head, lr in zip(heads, lrs, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    generator = torch.Generator().manual_seed(recipe.seed)
    passes = recipe.passes(len(rows))
    total = passes * math.ceil(len(rows) / recipe.batch)
    step = 0
    rates = f"{len(lrs)} learning rates at once" if len(lrs) > 1 else f"learning rate {lrs[0]:g}"
    logger.info(f"{recipe.name}: fitting on {len(rows):,} views, {total:,} steps, {rates}")
    with progress_bar(f"{recipe.name}: fitting", total=total) as bar:
        for _ in range(passes):
            for batch in rows[torch.randperm(len(rows), generator=generator)].split(recipe.batch):
                for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                    group["lr"] = warmup_cosine(
                        step, peak=lr, floor=0.0, warmup=total // WARMUP, total=total
                    )
                features, labels = views.take(batch).to(device), views.labels[batch].to(device)
                losses = [F.cross_entropy(head(features), labels) for head in heads]
                optimizer.zero_grad(set_to_none=True)
                torch.stack(losses).sum().backward()  # each head's gradient is of its own loss
                optimizer.step()
                step += 1
                bar.advance()
    return list(heads.eval())


@torch.inference_mode()
def logits_of(
    head: nn.Module,
    take: Callable[[Tensor], Tensor],
    rows: Tensor,
    batch: int,
    device: torch.device,
) -> Tensor:
    """Return a head's logits of the views in `rows`, (R, classes) float32 on the CPU.

    Args:
        take: function that returns features, as in Views.
        rows: (R,) int64, row numbers of the views.
    """
    return torch.cat([head(take(some).to(device)).float().cpu() for some in rows.split(batch)])


def choose_and_fit(
    make: Callable[[], nn.Module],
    views: Views,
    videos: Tensor,
    lrs: Sequence[float],
    recipe: Recipe,
    device: torch.device,
) -> Chosen:
    """Choose a learning rate on held-out videos, then fit a head with it on all videos.

    Of rates with equal accuracy, the one with the lower loss is chosen.

    Args:
        videos: (R,) int64, the video of each view; all views of a video are held out together.

    Raises:
        ProbeError: there are too few videos to hold some out.
    """
    rows = torch.arange(len(videos))
    if len(lrs) == 1:
        return Chosen(fit(make, views, rows, lrs, recipe, device)[0], lrs[0], {}, 0)
    names = videos.unique()
    if len(names) < 2:
        raise ProbeError(
            f"{len(names)} readable training videos are too few to choose a learning rate on some "
            "of them: give a longer data.train_list, or one rate, probe.lrs=[0.001]"
        )
    order = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(recipe.seed))]
    held = torch.isin(videos, order[: max(1, len(names) // HELD_OUT)])
    heads = fit(make, views, rows[~held], lrs, recipe, device)
    labels = views.labels[held]
    top1, losses = {}, {}
    for head, lr in zip(heads, lrs, strict=True):
        logits = logits_of(head, views.take, rows[held], recipe.batch, device)
        loss = float(F.cross_entropy(logits, labels))
        losses[lr] = loss if math.isfinite(loss) else math.inf
        top1[lr] = 100 * int((logits.argmax(1) == labels).sum()) / len(labels)
    best = max(lrs, key=lambda lr: (math.isfinite(losses[lr]), top1[lr], -losses[lr]))
    head = fit(make, views, rows, [best], recipe, device)[0]
    return Chosen(head, best, top1, len(videos[held].unique()))


def probe_data(config: EpochProbeConfig, data: DataConfig) -> DataConfig:
    """Return the settings of the probe's lists: those of `data`, with one view, the middle clip."""
    return replace(
        data,
        sources={},
        classes=config.classes,
        sampling=Sampling.dense,
        segments=1,
        crops=1,
        **{each.name: getattr(config, each.name) for each in fields(ListConfig)},
    )


class EpochProbe:
    """Measures the k-NN top-1 of an encoder during pre-training, without changing the training.

    Args:
        train_clips: labelled clips, which are the neighbours.
        test_clips: labelled clips to classify. One that cannot be read counts as wrong.
        data: settings of these lists; see `probe_data`.
    """

    def __init__(
        self,
        run: Run,
        config: EpochProbeConfig,
        train_clips: Sequence[Clip],
        test_clips: Sequence[Clip],
        data: DataConfig,
    ) -> None:
        self.config = config
        self.every_epochs = config.every_epochs
        self.lists = {"train": ClipList.of(train_clips), "test": ClipList.of(test_clips)}
        self.data = data
        self.run = run
        self.told: set[str] = set()

    def __call__(self, model: nn.Module, stop: Callable[[], bool]) -> float | None:
        """Return the top-1 accuracy in percent; None if the run is to stop. All processes call it.

        Args:
            stop: function that returns whether the run is to stop.

        Raises:
            FeatureError: the features are not finite.
        """
        assert isinstance(model, VideoMAE)
        training = model.training
        model.eval()
        try:
            encoder = FeatureExtractor(model, self.run.device, self.run.settings.precision)
            found = {}
            for name, clips in self.lists.items():
                features = mean_features(self.run, encoder, clips, self.data, stop)
                if features is None:
                    return None
                found[name] = features
                for file in features.bad:
                    if file.error not in self.told:
                        logger.info(
                            f"cannot be read: line {file.line} of probe.{name}_list: {file.error}"
                        )
                        self.told.add(file.error)
        finally:
            model.train(training)
        train, test = found["train"], found["test"]
        if len(train.video) == 0:
            return None
        labels = {
            name: torch.from_numpy(self.lists[name].labels())[each.video]
            for name, each in found.items()
        }
        probs = knn_probs(
            test.mean,
            train.mean,
            labels["train"],
            classes=self.config.classes or 0,
            k=self.config.k,
        )
        correct = int((probs.argmax(1) == labels["test"]).sum()) if len(probs) else 0
        return 100 * correct / len(self.lists["test"])
