"""Shared parts of bench_step.py and gpu_check.py: the product's step in every variant, tables.

Needs torch, einops and NumPy.
"""

import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from videomae.config import (
    AttentionBackend,
    AugmentConfig,
    ClipConfig,
    CropKind,
    MaskConfig,
    MaskKind,
    ModelConfig,
    OptimConfig,
    Precision,
    Recompute,
    token_grid,
)
from videomae.data.mask import Masking
from videomae.data.mix import Mixing
from videomae.model import VideoClassifier, VideoMAE
from videomae.model import layers as model_layers
from videomae.model.attention import AttentionKernel, candidate_kernels, measure
from videomae.model.float8 import use_float8
from videomae.model.flops import finetuning_flops, pretraining_flops
from videomae.model.layers import Attention, Block, use_padding
from videomae.model.mae import MaskIndices
from videomae.model.pixels import normalise
from videomae.run.arithmetic import uses_bf16
from videomae.run.parallel import Processes
from videomae.train.delivery import Delivery
from videomae.train.objective import Classify, Inputs, Reconstruct
from videomae.train.optimizer import adamw
from videomae.train.sharding import compile_blocks
from videomae.train.step import StepSettings, train_step

CLASSES = 400
MIX = AugmentConfig(CropKind.random_resized, antialias=False, mixup=0.8, cutmix=1.0)
MASK = MaskConfig(MaskKind.tube, 0.9, 0.5)
CLIP_GRAD = 0.02
FASTEST = AttentionBackend.auto
OPTIM = {"base_lr": 1e-4, "min_lr": 1e-5, "epochs": 1, "warmup_epochs": 0.0, "betas": [0.9, 0.95]}


@dataclass(frozen=True)
class Variant:
    """How a step is computed."""

    plain: bool = False
    """As VideoMAE V2's code: see PLAIN."""
    float8: bool = False
    recompute: Recompute = Recompute.none
    compiled: bool = False
    attention: AttentionBackend = AttentionBackend.torch
    """auto: by the one that is fastest on this device."""
    padded: bool = False
    """MLPs at a multiple of 8."""
    aside: bool = False
    """Frames from registered memory on a stream of their own (CUDA)."""


PLAIN = Variant(plain=True, recompute=Recompute.full)
"""fp16 with a scaled loss on GPUs, attention written out, every block computed again, an AdamW that
is not fused, frames normalised whole."""


@dataclass(frozen=True)
class Setup:
    """What all variants have in common."""

    config: ModelConfig
    clip: ClipConfig
    stage: str
    """pretrain or finetune."""
    views: int
    precision: Precision
    device: torch.device
    mask: MaskConfig = MASK

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        return torch.bfloat16 if uses_bf16(self.device, self.precision) else torch.float32

    @cached_property
    def masking(self) -> Masking:
        return Masking(self.mask, token_grid(self.config, self.clip))

    def parts(self) -> dict[str, tuple[int, int, int]]:
        """Tokens, heads and width of each part of the model."""
        config = self.config
        if self.stage == "finetune":
            return {"encoder": (math.prod(token_grid(config, self.clip)), config.heads, config.dim)}
        visible, decoded = self.masking.num_tokens()
        return {
            "encoder": (visible, config.heads, config.dim),
            "decoder": (visible + decoded, config.decoder_heads, config.decoder_dim),
        }

    def flops(self) -> float:
        """Of a step."""
        if self.stage == "finetune":
            return self.views * finetuning_flops(self.config, self.clip)
        return self.views * pretraining_flops(self.config, *self.masking.num_tokens())

    def attention(
        self,
    ) -> Iterator[tuple[str, tuple[int, int, int, int], dict[AttentionKernel, float]]]:
        """Each part of the model, the shape of its queries, and what each way takes, in seconds."""
        for name, (tokens, heads, dim) in self.parts().items():
            shape = self.views, heads, tokens, dim // heads
            tried = [
                *candidate_kernels(AttentionBackend.auto, dim // heads),
                AttentionKernel(AttentionBackend.math),
            ]
            yield name, shape, measure(tried, shape, self.device, self.dtype)


@dataclass(frozen=True)
class Took:
    """What a step took."""

    seconds: float
    host: float
    """Seconds until the host had asked for all of it."""
    cpu: float
    """Seconds of all cores of the host: on a CPU, what other programs do not disturb."""
    loss: float
    grad_norm: float


class Stepper:
    """A model that trains on random clips: normalisation or gathering, masks, forward, backward,
    scaling and clipping of gradients, AdamW, and the copy of the frames to the device.
    """

    def __init__(self, setup: Setup, variant: Variant, fastest: dict[str, AttentionKernel]) -> None:
        self.setup, self.variant = setup, variant
        torch.manual_seed(0)
        self.objective = self._objective()
        model = self.objective.model
        if variant.float8:
            use_float8(model, setup.device)
        for name, module in model.named_modules():
            if isinstance(module, Block):
                module.recompute = variant.recompute
            if isinstance(module, Attention):
                part = "decoder" if name.startswith("decoder.") else "encoder"
                auto = variant.attention is AttentionBackend.auto
                module.kernel = fastest[part] if auto else AttentionKernel(variant.attention)
        use_padding(model, 8 if variant.padded else 1)
        if variant.compiled:
            compile_blocks(model)
        optim = OptimConfig(global_batch=setup.views, **OPTIM)
        self.optimizer = adamw(model, setup.config.depth, optim)
        if variant.plain:
            options = {"lr": 1e-4, "fused": False, "foreach": True}
            self.optimizer = torch.optim.AdamW(model.parameters(), **options)
            scale = {"init_scale": 2.0**12, "enabled": setup.cuda}  # no step is left out
            self.scaler = torch.amp.GradScaler(setup.device.type, **scale)
        self.delivery = Delivery(setup.device, aside=variant.aside and setup.cuda)
        self.frames, self.inputs = self._data()
        self.release = self.delivery.register(self.frames) if self.delivery.register else None
        self.processes = Processes(0, 1, 1, setup.device)
        self.number = 0

    def step(self) -> Took:
        """One more."""
        self.number += 1
        start, cpu = time.perf_counter(), time.process_time()
        took = self._plain() if self.variant.plain else self._product()
        host = time.perf_counter() - start
        loss, norm = took()
        if self.setup.cuda:
            torch.cuda.synchronize()
        self.delivery.settle()
        seconds = time.perf_counter() - start
        return Took(seconds, host, time.process_time() - cpu, loss, norm)

    def close(self) -> None:
        """Let go of memory that the driver knows."""
        if self.release:
            torch.cuda.synchronize()
            self.release()

    def _product(self) -> Callable[[], tuple[float, float]]:
        pending = train_step(
            self.objective,
            self.optimizer,
            [Inputs((self._arrived(), *self.inputs.tensors), self.inputs.num_errors)],
            self.processes,
            StepSettings(self.number, 0, 1e-4, 1, CLIP_GRAD, self.setup.precision),
        )

        def wait() -> tuple[float, float]:
            report = pending.wait()
            return report.loss, report.grad_norm

        return wait

    def _plain(self) -> Callable[[], tuple[float, float]]:
        setup = self.setup
        half = torch.float16 if setup.cuda else torch.bfloat16
        inputs = self.inputs.to(setup.device).tensors
        use_half = setup.cuda or setup.dtype is torch.bfloat16
        with written_out_attention():
            with torch.autocast(setup.device.type, half, enabled=use_half):
                loss = self.objective(self._arrived(), *inputs) / self.inputs.num_errors
            self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.objective.model.parameters(), CLIP_GRAD)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return lambda: (loss.item(), norm.item())

    def _arrived(self) -> Tensor:
        room = self.delivery.room(*self.frames.shape)
        self.delivery.put(room, self.frames)
        return self.delivery.arrive(room)

    def _objective(self) -> Any:
        setup = self.setup
        if setup.stage == "pretrain":
            with setup.device:  # which draws a billion weights in no time
                model = VideoMAE(setup.config, setup.clip)
            model = model.to(setup.device).train()
            return WholeFrames(model) if self.variant.plain else Reconstruct(model)
        with setup.device:
            classifier = VideoClassifier(setup.config, setup.clip, CLASSES, drop_path=0.1)
        mix = AugmentConfig(
            CropKind.random_resized, False, mixup=0.8, cutmix=1.0, mix_block=setup.views
        )
        mixing = Mixing(mix, setup.views, setup.clip.frame, 1, 0)
        return Classify(classifier.to(setup.device).train(), 0.1, mixing)

    def _data(self) -> tuple[Tensor, Inputs]:
        """Frames in the CPU's memory, pinned where there is a GPU, and all other inputs."""
        setup, rng = self.setup, np.random.default_rng(0)
        frames = torch.randint(
            0, 256, (setup.views, setup.clip.frames, *setup.clip.frame, 3), dtype=torch.uint8
        )
        if setup.stage == "pretrain":
            drawn = [setup.masking.draw(rng) for _ in range(setup.views)]
            masks = MaskIndices.of(*(torch.stack(part) for part in zip(*drawn, strict=True)))
            return frames, Inputs(tuple(masks), masks.scored.sum().item())
        label = torch.arange(setup.views) % CLASSES
        weight, erased = torch.ones(setup.views), torch.zeros(0, 4, dtype=torch.int64)
        mix = self.objective.mixing.draw(1, 0, weight > 0)
        return frames, Inputs((label, weight, erased, *mix), float(setup.views))


class WholeFrames(Reconstruct):
    """Every pixel normalised before tokens are taken out, as VideoMAE V2 does."""

    def forward(self, frames: Tensor, visible: Tensor, decoded: Tensor, scored: Tensor) -> Tensor:
        with mock.patch.object(VideoMAE, "rebuild_frames", _normalised_first):
            return super().forward(frames, visible, decoded, scored)


def _normalised_first(model: VideoMAE, frames: Tensor, masks: MaskIndices) -> Any:
    return model.rebuild(normalise(frames), masks)


@contextmanager
def written_out_attention() -> Iterator[None]:
    """Attention whose scores are all there at once."""

    def attend(q: Tensor, k: Tensor, v: Tensor, _: AttentionKernel) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return scores.softmax(-1) @ v

    with mock.patch.object(model_layers, "attend", attend):
        yield


def median(took: Sequence[Took]) -> Took:
    """Of each number."""
    columns = zip(*(vars(each).values() for each in took), strict=True)
    return Took(*(statistics.median(column) for column in columns))


def clean(device: torch.device) -> None:
    """Give memory back, and forget what was compiled."""
    gc.collect()
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def sustained_peak(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    """Operations a second in large square matrix products, asked for so long without a pause: what
    a device holds that grows warm."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    start, times, together = time.perf_counter(), 0, 20 if device.type == "cuda" else 1
    while not times or time.perf_counter() - start < seconds:
        for _ in range(together):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times += together
    return 2 * size**3 * times / (time.perf_counter() - start)


def hardware(device: torch.device) -> dict[str, Any]:
    """What numbers were measured on."""
    about: dict[str, Any] = {"torch": torch.__version__, "device": "CPU"}
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        about |= {
            "device": torch.cuda.get_device_name(device),
            "capability": f"{major}.{minor}",
            "cuda": torch.version.cuda,
            "memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1),
        }
    else:
        about["threads"] = torch.get_num_threads()
    return about


class Table:
    """Rows that are printed, and kept in NAME.json and NAME.md as they come.

    Args:
        directory: None: they are printed alone.
    """

    def __init__(self, directory: Path | None, name: str, about: dict[str, Any]) -> None:
        self.directory, self.name, self.about = directory, name, about
        self.rows: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.columns: list[str] = []
        self._add(f"## {name}", "", *(f"- {key}: {value}" for key, value in about.items()))

    def row(self, **values: Any) -> None:
        """One more; a table begins where the columns change."""
        self.rows.append(values)
        if list(values) != self.columns:
            self.columns = list(values)
            heads = [column.replace("_", " ") for column in values]
            self._add("", f"| {' | '.join(heads)} |", "|" + "---|" * len(values))
        self._add(f"| {' | '.join(map(_shown, values.values()))} |")

    def _add(self, *lines: str) -> None:
        self.lines += lines
        print("\n".join(lines), flush=True)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            found = {"about": self.about, "rows": self.rows}
            (self.directory / f"{self.name}.json").write_text(json.dumps(found, indent=1) + "\n")
            (self.directory / f"{self.name}.md").write_text("\n".join(self.lines) + "\n")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
