#!/usr/bin/env python
"""Time training steps of one model size in every variant: forward, backward, AdamW; random clips.

Needs torch, einops, timm (with what it needs) and this package's model code: no Hydra, no decord.

    python scripts/bench_step.py --model vit_tiny --frames 8 --size 32 --batch 64
    python scripts/bench_step.py --model vit_giant --stage pretrain --batch 32
    python scripts/bench_step.py --variants plain eager compiled

The variants compute the same:

    plain       as VideoMAE V2's code: fp16 with a scaled loss on GPUs, attention written out, every
                block computed again, an AdamW that is not fused
    eager       this project's step
    selective   all but matrix products and attention computed again; full: every block
    compiled    each block compiled
    flash ...   attention by that implementation alone
    fastest     by the one that is fastest in the first table, as run.attention=auto takes it;
                the others take whichever torch prefers
    float8      the blocks' matrix products by torchao, if it is installed; on CPUs emulated

"of the peak": the model's own arithmetic, nothing counted twice, as a share of what the device does
in large matrix products, measured at the start.
"""

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from videomae.config import (
    AttentionBackend,
    ClipConfig,
    ConfigError,
    ModelConfig,
    Recompute,
    token_grid,
)
from videomae.data.mask import running_cell_mask, tube_mask
from videomae.model import VideoClassifier, VideoMAE, preset, preset_names
from videomae.model import layers as model_layers
from videomae.model.attention import Way, measure, ways
from videomae.model.float8 import use_float8
from videomae.model.flops import finetuning_flops, matmul_peak, pretraining_flops
from videomae.model.layers import Attention, Block
from videomae.model.loss import token_errors
from videomae.model.mae import MaskIndices

CLASSES = 400
ENCODER_RATIO = 0.9
WARM_UP = 3
"""Steps before those that are timed."""
PLAIN, FASTEST = "plain", "fastest"
OTHERS = ("auto", "torch")
"""Attention that is not one implementation."""


@dataclass(frozen=True)
class Variant:
    """How a step is computed."""

    float8: bool = False
    recompute: Recompute = Recompute.none
    compiled: bool = False
    attention: AttentionBackend = AttentionBackend.torch


VARIANTS = {
    PLAIN: Variant(recompute=Recompute.full),
    "eager": Variant(),
    "selective": Variant(recompute=Recompute.selective),
    "full": Variant(recompute=Recompute.full),
    "compiled": Variant(compiled=True),
    "compiled selective": Variant(recompute=Recompute.selective, compiled=True),
    "compiled full": Variant(recompute=Recompute.full, compiled=True),
    **{each.name: Variant(attention=each) for each in AttentionBackend if each.name not in OTHERS},
    FASTEST: Variant(attention=AttentionBackend.auto),
    f"compiled {FASTEST}": Variant(compiled=True, attention=AttentionBackend.auto),
    "compiled float8": Variant(float8=True, compiled=True),
}


@dataclass(frozen=True)
class Row:
    """What a variant takes."""

    seconds: float
    """Median of a step."""
    peak_bytes: int


@dataclass(frozen=True)
class Bench:
    """What all variants have in common."""

    config: ModelConfig
    clip: ClipConfig
    stage: str
    batch: int
    steps: int
    device: torch.device
    bf16: bool
    fastest: dict[str, Way] = field(default_factory=dict)
    """By part of the model."""

    def run(self, name: str) -> Row:
        """Time one variant."""
        variant, cuda = VARIANTS[name], self.device.type == "cuda"
        plain = name == PLAIN
        model, loss_of = self._model(variant)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=not plain, foreach=plain)
        scaler = torch.amp.GradScaler(self.device.type, enabled=plain and cuda)
        half = torch.float16 if plain and cuda else torch.bfloat16
        use_half = cuda if plain else self.bf16

        def step() -> float:
            start = time.perf_counter()
            with torch.autocast(self.device.type, half, enabled=use_half):
                loss = loss_of()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            if cuda:
                torch.cuda.synchronize()
            return time.perf_counter() - start

        with ExitStack() as stack:
            if plain:
                stack.enter_context(written_out_attention())
            for _ in range(WARM_UP):
                step()
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            times = [step() for _ in range(self.steps)]
        peak = torch.cuda.max_memory_allocated() if cuda else 0
        return Row(statistics.median(times), peak)

    def flops(self) -> float:
        """Of a step."""
        if self.stage == "finetune":
            return self.batch * finetuning_flops(self.config, self.clip)
        return self.batch * pretraining_flops(self.config, *self._counts())

    def attention(self) -> Iterator[tuple[str, tuple[int, int, int, int], dict[Way, float]]]:
        """Each part of the model, the shape of its queries, and what each way takes, in seconds."""
        config, dtype = self.config, torch.bfloat16 if self.bf16 else torch.float32
        parts = {"encoder": (math.prod(token_grid(config, self.clip)), config.heads, config.dim)}
        if self.stage == "pretrain":
            visible, decoded = self._counts()
            parts = {
                "encoder": (visible, config.heads, config.dim),
                "decoder": (visible + decoded, config.decoder_heads, config.decoder_dim),
            }
        for name, (tokens, heads, dim) in parts.items():
            shape = self.batch, heads, tokens, dim // heads
            tried = [*ways(AttentionBackend.auto, dim // heads), Way(AttentionBackend.math)]
            yield name, shape, measure(tried, shape, self.device, dtype)

    def _model(self, variant: Variant) -> tuple[nn.Module, Callable[[], Tensor]]:
        """A model, and its loss on some random clips."""
        torch.manual_seed(0)
        shape = (self.batch, 3, self.clip.frames, *self.clip.frame)
        clip = torch.randn(shape, device=self.device)
        model: VideoMAE | VideoClassifier
        if self.stage == "pretrain":
            pretrained = model = VideoMAE(self.config, self.clip).to(self.device)
            indices = self._masks()

            def loss() -> Tensor:
                prediction, target = pretrained.rebuild(clip, indices)
                errors = token_errors(prediction, target) * indices.scored
                return errors.sum() / indices.scored.sum()
        else:
            classifier = model = VideoClassifier(self.config, self.clip, CLASSES).to(self.device)
            label = torch.randint(CLASSES, (self.batch,), device=self.device)

            def loss() -> Tensor:
                return nn.functional.cross_entropy(classifier(clip).float(), label)

        if variant.float8:
            use_float8(model, self.device)
        for name, module in model.named_modules():
            if isinstance(module, Block):
                module.recompute = variant.recompute
                if variant.compiled:
                    module.forward = torch.compile(module.forward)  # type: ignore[method-assign]
            if isinstance(module, Attention):
                part = "decoder" if name.startswith("decoder.") else "encoder"
                auto = variant.attention is AttentionBackend.auto
                module.way = self.fastest[part] if auto else Way(variant.attention)
        return model, loss

    def _counts(self) -> tuple[int, int]:
        """Tokens of a view that the encoder sees and that the decoder rebuilds."""
        indices = self._masks()
        return indices.visible.shape[1], indices.decoded.shape[1]

    def _masks(self) -> MaskIndices:
        """90 % tubes hidden from the encoder, half of the tokens decoded."""
        grid, rng = token_grid(self.config, self.clip), np.random.default_rng(0)
        hidden = torch.stack([tube_mask(grid, ENCODER_RATIO, rng) for _ in range(self.batch)])
        halves = running_cell_mask(grid, 0.5, phase=0).expand(self.batch, -1)
        return MaskIndices(*(part.to(self.device) for part in MaskIndices.of(hidden, halves)))


@contextmanager
def written_out_attention() -> Iterator[None]:
    """Attention whose scores are all there at once."""

    def attend(q: Tensor, k: Tensor, v: Tensor, _: Way) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return scores.softmax(-1) @ v

    with mock.patch.object(model_layers, "attend", attend):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=preset_names(), default="vit_base")
    parser.add_argument("--stage", choices=("pretrain", "finetune"), default="pretrain")
    parser.add_argument("--batch", type=int, default=8, help="clips per step (8)")
    parser.add_argument("--frames", type=int, default=16, help="frames per clip (16)")
    parser.add_argument("--size", type=int, default=224, help="side of a clip in px (224)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (10)")
    parser.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    bf16 = args.precision == "bf16" or (args.precision == "auto" and cuda)
    clip = ClipConfig(args.frames, 1, args.size)
    bench = Bench(preset(args.model), clip, args.stage, args.batch, args.steps, device, bf16)
    size = 8192 if cuda else 2048
    peak = matmul_peak(device, torch.bfloat16 if bf16 else torch.float32, size)
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {'bf16' if bf16 else 'float32'}")
    print(f"{args.model}, {args.stage}, {args.batch} clips of {clip}; {args.steps} steps each")
    print(f"matrix products of {size}: {peak / 1e12:.3f} TFLOP/s\n")
    print("attention, forward and backward:\n")
    for part, shape, times in bench.attention():
        bench.fastest[part] = next(iter(times))
        took = "; ".join(f"{way} {1e3 * seconds:.3g} ms" for way, seconds in times.items())
        print(f"- {part}, {shape[2]} tokens, {shape[1]} heads of {shape[3]}: {took}")
    print()
    print("| variant | ms | clips/s | times plain | TFLOP/s | of the peak | memory, GB |")
    print("|---|---|---|---|---|---|---|")
    plain: Row | None = None
    for variant in args.variants:
        try:
            row = bench.run(variant)
        except (RuntimeError, ConfigError) as error:  # no such attention here, no memory
            print(f"| {variant} | not run: {str(error).splitlines()[0][:80]} |||||||", flush=True)
            continue
        finally:
            gc.collect()
            torch.compiler.reset()
            if cuda:
                torch.cuda.empty_cache()
        plain = row if variant == PLAIN else plain
        done = bench.flops() / row.seconds
        ratio = f"{plain.seconds / row.seconds:.2f}" if plain else ""
        memory = f"{row.peak_bytes / 1e9:.1f}" if cuda else ""
        print(
            f"| {variant} | {1e3 * row.seconds:.1f} | {args.batch / row.seconds:.2f} | {ratio} | "
            f"{done / 1e12:.3f} | {done / peak:.1%} | {memory} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
