#!/usr/bin/env python
"""Time training steps of one model size: forward, backward and AdamW, on random clips.

Needs torch, einops, timm (with what it needs) and this package's model code: no Hydra, no decord.

    python scripts/bench_step.py --model vit_tiny --frames 8 --size 32 --batch 64
    python scripts/bench_step.py --model vit_giant --stage pretrain --batch 8
"""

import argparse
import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn

from videomae.config import ClipConfig, token_grid
from videomae.data.mask import running_cell_mask, tube_mask
from videomae.model import VideoClassifier, VideoMAE, preset, preset_names
from videomae.model.flops import finetuning_flops, matmul_peak, pretraining_flops
from videomae.model.loss import token_errors
from videomae.model.mae import MaskIndices

CLASSES = 400
ENCODER_RATIO = 0.9


def masks(batch: int, grid: tuple[int, int, int], device: torch.device) -> MaskIndices:
    """90 % tubes hidden from the encoder, half of the tokens decoded."""
    rng = np.random.default_rng(0)
    hidden = torch.stack([tube_mask(grid, ENCODER_RATIO, rng) for _ in range(batch)])
    halves = running_cell_mask(grid, 0.5, phase=0).expand(batch, -1)
    return MaskIndices(*(part.to(device) for part in MaskIndices.of(hidden, halves)))


def pretrain_loss(model: VideoMAE, clip: Tensor, indices: MaskIndices) -> Tensor:
    """The mean error over the scored tokens."""
    prediction, target = model.rebuild(clip, indices)
    return (token_errors(prediction, target) * indices.scored).sum() / indices.scored.sum()


def finetune_loss(model: VideoClassifier, clip: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy."""
    return nn.functional.cross_entropy(model(clip).float(), label)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=preset_names(), default="vit_base")
    parser.add_argument("--stage", choices=("pretrain", "finetune"), default="pretrain")
    parser.add_argument("--batch", type=int, default=8, help="clips per step (default 8)")
    parser.add_argument("--frames", type=int, default=16, help="frames per clip (default 16)")
    parser.add_argument("--size", type=int, default=224, help="side of a clip in px (default 224)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default 10)")
    parser.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto")
    args = parser.parse_args()

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    bf16 = args.precision == "bf16" or (args.precision == "auto" and cuda)
    config, clip_config = preset(args.model), ClipConfig(args.frames, 1, args.size)
    grid = token_grid(config, clip_config)
    clip = torch.randn(args.batch, 3, args.frames, args.size, args.size, device=device)
    model: VideoMAE | VideoClassifier
    if args.stage == "pretrain":
        model = VideoMAE(config, clip_config).to(device)
        indices = masks(args.batch, grid, device)
        visible, decoded = (part.shape[1] for part in (indices.visible, indices.decoded))
        flops = pretraining_flops(config, visible, decoded)
        extra: MaskIndices | Tensor = indices
        loss_of = pretrain_loss
    else:
        model = VideoClassifier(config, clip_config, CLASSES).to(device)
        flops = finetuning_flops(config, clip_config)
        extra = torch.randint(CLASSES, (args.batch,), device=device)
        loss_of = finetune_loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_of(model, clip, extra)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(2):
        step()
    times = [step() for _ in range(args.steps)]
    median = statistics.median(times)
    tflops = args.batch * flops / median / 1e12
    size = 8192 if cuda else 2048
    peak = matmul_peak(device, torch.bfloat16 if bf16 else torch.float32, size) / 1e12
    name = torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads"
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if cuda else "not measured"
    print(f"device          {name}, torch {torch.__version__}, {'bf16' if bf16 else 'float32'}")
    print(f"model           {args.model}, {args.stage}, {args.frames} x {args.size} x {args.size}")
    print(f"step            {median * 1e3:.1f} ms (fastest {min(times) * 1e3:.1f})")
    print(f"clips/s         {args.batch / median:.2f}   clips/step {args.batch}")
    print(f"TFLOP/s         {tflops:.3f}   (model only: no recomputation counted)")
    print(f"of the peak     {tflops / peak:.1%}   (matrix products of {size}: {peak:.3f} TFLOP/s)")
    print(f"peak memory     {memory}")


if __name__ == "__main__":
    main()
