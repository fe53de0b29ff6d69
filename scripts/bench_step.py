#!/usr/bin/env python
"""Time training steps of one model size in every variant, on random clips.

Needs torch, einops, NumPy and this package's model and step: no Hydra, no decord.

    python scripts/bench_step.py --model vit_tiny --frames 8 --size 32 --batch 64
    python scripts/bench_step.py --model vit_giant --stage pretrain --batch 32
    python scripts/bench_step.py --variants plain eager compiled

A step is the product's own (videomae.train.step): the frames' copy to the device, gathering or
normalisation, mixup, forward, backward, scaling and clipping of the gradients, AdamW. The variants
compute the same:

    plain       as VideoMAE V2's code: fp16 with a scaled loss on GPUs, attention written out, every
                block computed again, an AdamW that is not fused, frames normalised whole
    eager       this project's step
    padded      MLPs whose width is no multiple of 8 at the next one that is
    aside       frames copied from registered memory on a stream of their own (GPUs)
    selective   all but matrix products and attention computed again; full: every block
    compiled    each block compiled
    flash ...   attention by that implementation alone
    fastest     by the one that is fastest in the first table, as run.attention=auto takes it;
                the others take whichever torch prefers
    all         compiled, padded, aside, fastest: what a run on a GPU does with run.compile=true
    float8      the blocks' matrix products by torchao, if it is installed; on CPUs emulated

"of the peak": the model's own arithmetic, nothing counted twice, as a share of what the device does
in large matrix products, measured at the start in a burst. On CPUs the variants take turns, step by
step, where half of the memory holds them all at once; "cpu ms" is the time of all cores, which
other programs disturb less.
"""

import argparse
import os
from collections.abc import Iterator

import torch
from measuring import PLAIN, Setup, Stepper, Took, Variant, clean, median, sustained_peak

from videomae.config import AttentionBackend, ClipConfig, ConfigError, Precision, Recompute
from videomae.model import VideoMAE, preset, preset_names
from videomae.model.attention import AttentionKernel
from videomae.model.flops import matmul_peak

BYTES_OF_TRAINING = 16
"""Bytes of a parameter, its gradient and the two moments of AdamW, in float32."""
WARM_UP = 3
"""Steps before those that are timed."""
FASTEST = AttentionBackend.auto
OTHERS = ("auto", "torch")
"""Attention that is not one implementation."""
VARIANTS = {
    "plain": PLAIN,
    "eager": Variant(),
    "padded": Variant(padded=True),
    "aside": Variant(aside=True),
    "selective": Variant(recompute=Recompute.selective),
    "full": Variant(recompute=Recompute.full),
    "compiled": Variant(compiled=True),
    "compiled selective": Variant(recompute=Recompute.selective, compiled=True),
    "compiled full": Variant(recompute=Recompute.full, compiled=True),
    **{each.name: Variant(attention=each) for each in AttentionBackend if each.name not in OTHERS},
    "fastest": Variant(attention=FASTEST),
    "all": Variant(compiled=True, padded=True, aside=True, attention=FASTEST),
    "compiled float8": Variant(float8=True, compiled=True),
}
Timed = tuple[Took, int] | Exception
"""Medians of a variant and its peak memory in bytes, or why it did not run."""


def started(
    setup: Setup, variant: Variant, fastest: dict[str, AttentionKernel]
) -> Stepper | Exception:
    """A stepper that has taken its first steps."""
    try:
        if variant.aside and not setup.cuda:
            raise ConfigError("for GPUs alone")
        stepper = Stepper(setup, variant, fastest)
        for _ in range(WARM_UP):
            stepper.step()
    except (RuntimeError, ConfigError) as error:  # no such attention here, no memory
        return error
    return stepper


def fits_together(setup: Setup, count: int) -> bool:
    """Whether so many models and their optimisers fit into the machine's memory at once."""
    if setup.cuda:
        return False
    with torch.device("meta"):
        model = VideoMAE(setup.config, setup.clip)
    each = BYTES_OF_TRAINING * sum(parameter.numel() for parameter in model.parameters())
    return count * each < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def one_by_one(
    setup: Setup, names: list[str], fastest: dict[str, AttentionKernel], steps: int
) -> Iterator[tuple[str, Timed]]:
    """Each variant alone on the device."""
    for name in names:
        clean(setup.device)
        stepper = started(setup, VARIANTS[name], fastest)
        timed: Timed
        if isinstance(stepper, Stepper):
            if setup.cuda:
                torch.cuda.reset_peak_memory_stats()
            took = median([stepper.step() for _ in range(steps)])
            timed = took, torch.cuda.max_memory_allocated() if setup.cuda else 0
            stepper.close()
        else:
            timed = stepper
        del stepper
        yield name, timed


def in_turn(
    setup: Setup, names: list[str], fastest: dict[str, AttentionKernel], steps: int
) -> Iterator[tuple[str, Timed]]:
    """A step of each, again and again: what else the machine does disturbs all alike."""
    steppers = {name: started(setup, VARIANTS[name], fastest) for name in names}
    rounds: dict[str, list[Took]] = {name: [] for name in names}
    for _ in range(steps):
        for name, stepper in steppers.items():
            if isinstance(stepper, Stepper):
                rounds[name].append(stepper.step())
    for name, stepper in steppers.items():
        yield name, (median(rounds[name]), 0) if isinstance(stepper, Stepper) else stepper


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
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    clip, precision = ClipConfig(args.frames, 1, args.size), Precision[args.precision]
    setup = Setup(preset(args.model), clip, args.stage, args.batch, precision, device)
    size = 8192 if cuda else 2048
    peak = matmul_peak(device, setup.dtype, size)
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {str(setup.dtype).removeprefix('torch.')}")
    print(f"{args.model}, {args.stage}, {args.batch} clips of {clip}; {args.steps} steps each")
    held = sustained_peak(device, setup.dtype, size, 10 if cuda else 1)
    print(f"matrix products of {size}: {peak / 1e12:.3f} TFLOP/s, held {held / 1e12:.3f}\n")
    print("attention, forward and backward:\n")
    fastest = {}
    for part, shape, times in setup.attention():
        fastest[part] = next(iter(times))
        took = "; ".join(f"{way} {1e3 * seconds:.3g} ms" for way, seconds in times.items())
        print(f"- {part}, {shape[2]} tokens, {shape[1]} heads of {shape[3]}: {took}")
    print()
    print_table(setup, args.variants, fastest, args.steps, peak)


def print_table(
    setup: Setup, names: list[str], fastest: dict[str, AttentionKernel], steps: int, peak: float
) -> None:
    """A row for each variant, as soon as it is there."""
    last = "memory, GB" if setup.cuda else "cpu ms"
    print(f"| variant | ms | clips/s | times plain | TFLOP/s | of the peak | {last} |")
    print("|---|---|---|---|---|---|---|")
    plain: float | None = None
    timing = in_turn if fits_together(setup, len(names)) else one_by_one
    for name, timed in timing(setup, names, fastest, steps):
        if isinstance(timed, Exception):
            lines = str(timed).splitlines() or [type(timed).__name__]
            print(f"| {name} | not run: {lines[0][:80]} |||||||", flush=True)
            continue
        took, memory = timed
        seconds, done = took.seconds, setup.flops() / took.seconds
        plain = seconds if name == "plain" else plain
        ratio = f"{plain / seconds:.2f}" if plain else ""
        number = f"{memory / 1e9:.1f}" if setup.cuda else f"{1e3 * took.cpu:.1f}"
        print(
            f"| {name} | {1e3 * seconds:.1f} | {setup.views / seconds:.2f} | {ratio} | "
            f"{done / 1e12:.3f} | {done / peak:.1%} | {number} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
