#!/usr/bin/env python
"""Check that the demo's classifier looks at motion: its test clips frozen, and played backwards.

A clip whose middle frame is shown all the time has no motion left: accuracy should be at chance. A
clip played backwards shows the opposite motion: it should be taken for the opposite class.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from videomae import load_model
from videomae.config import DataConfig
from videomae.data.dataset import EvaluationClips
from videomae.lists.clips import read_clips
from videomae.lists.names import class_names
from videomae.model.pixels import normalise

OPPOSITE = {
    "pan_left": "pan_right",
    "pan_up": "pan_down",
    "zoom_in": "zoom_out",
    "rotate_clockwise": "rotate_counterclockwise",
}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "weights", type=Path, help="a fine-tuned run, such as outputs/demo/finetune"
    )
    parser.add_argument("--clips", type=Path, default=Path("outputs/demo/clips"))
    args = parser.parse_args()

    model = load_model(args.weights)
    data = DataConfig(
        clip=dataclasses.replace(model.clip, stride=1),
        root=str(args.clips / "videos"),
        classes=len(OPPOSITE) * 2,
        class_names=str(args.clips / "classes.txt"),
        segments=1,
        crops=1,
    )
    names = class_names(data)
    both_ways = OPPOSITE | {other: name for name, other in OPPOSITE.items()}
    opposite = torch.tensor([names.index(both_ways[name]) for name in names])
    clips = read_clips(args.clips / "test.txt", data, labelled=True)
    frames = torch.cat([EvaluationClips(clips, data)[index].clip for index in range(len(clips))])
    labels = torch.tensor([clip.label for clip in clips])

    def accuracy(shown: torch.Tensor, expected: torch.Tensor) -> float:
        guesses = torch.cat([model(normalise(part)).argmax(1) for part in shown.split(64)])
        return 100 * (guesses == expected).float().mean().item()

    middle = frames[:, frames.shape[1] // 2, None].expand_as(frames)
    print(f"as they are                    {accuracy(frames, labels):5.1f} %")
    print(f"middle frame only (chance {100 / len(names):.1f}) {accuracy(middle, labels):5.1f} %")
    print(f"backwards, own class           {accuracy(frames.flip(1), labels):5.1f} %")
    print(f"backwards, opposite class      {accuracy(frames.flip(1), opposite[labels]):5.1f} %")


if __name__ == "__main__":
    main()
