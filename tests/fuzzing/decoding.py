"""Videos through a training loader, whose decoding process may be lost, and through inspections."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from tests.fuzzing.base import BAD, RIGHT, Result, digest
from videomae.config import AugmentConfig, ClipConfig, CropKind, DataConfig
from videomae.data.dataset import EvaluationClips, TrainingClips
from videomae.data.loader import evaluation_loader, single_examples
from videomae.lists.clips import ClipList, read_clips
from videomae.run.worker_pool import serve

MAX_BYTES = 2**29
"""Memory that reading a clip may take: less than what counts as too much for an attempt."""
TIMEOUT_S = 20.0
"""A video that takes longer is a bad file."""
DATA = DataConfig(
    clip=ClipConfig(frames=4, stride=2, size=32),
    classes=3,
    segments=1,
    crops=1,
    timeout_s=TIMEOUT_S,
    max_clip_bytes=MAX_BYTES,
)
AUGMENT = AugmentConfig(CropKind.multi_scale, antialias=True)


def read_list(path: str, data: DataConfig) -> ClipList:
    """The clips of a list."""
    return read_clips(path, data, labelled=False)


def through_loaders(clips: ClipList, data: DataConfig) -> Result:
    """Every video for training and for evaluation, each loader with a process that decodes.

    Facts: of each video a hash of its pixels, or none for a bad file.
    """
    training = TrainingClips(clips, data, AUGMENT, None, seed=0)
    testing = EvaluationClips(clips, data)
    facts: dict[str, list[str | None]] = {"training": [], "evaluation": []}
    said = []
    loaders = {
        "training": single_examples(training, range(len(clips))),
        "evaluation": evaluation_loader(testing, rank=0, world=1, batch=1, workers=1, pin=False),
    }
    for name, loader in loaders.items():
        for batch in loader:
            valid = bool(batch.valid.all())
            assert valid == (not batch.bad)
            assert valid or not batch.clip.any()
            facts[name].append(digest(batch.clip.numpy().tobytes()) if valid else None)
            said += [f"{entry.path}: {entry.error}" for entry in batch.bad]
        assert len(facts[name]) == len(clips)
    return Result(BAD if said else RIGHT, facts, "\n".join(said))


def neighbours_differ(facts: Any, expected: Any) -> str | None:
    """Whether the intact video, which is the first and the last of the list, was read otherwise."""
    for name, read in facts.items():
        if read[0] != expected[name][0]:
            return f"an undamaged video before it was read otherwise ({name})"
    if facts["evaluation"][-1] != expected["evaluation"][-1]:
        return "an undamaged video after it was read otherwise"
    return None


def through_program(answer: Callable[..., Any], requests: list[list[object]]) -> Result:
    """Requests to a program that inspects videos, in a process like it: it may crash or hang.

    Facts: what it says, in the order of the requests; None: it has crashed.
    """
    into, out = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(into[0], 0)
            for end in (into[1], out[0]):
                os.close(end)
            with os.fdopen(0) as stdin, os.fdopen(out[1], "w") as stdout:
                sys.stdin, sys.stdout = stdin, stdout
                serve(answer)
        finally:
            os._exit(0)
    os.close(into[0])
    os.close(out[1])
    with os.fdopen(into[1], "w") as asked, os.fdopen(out[0]) as answers:
        asked.write("".join(json.dumps(request) + "\n" for request in requests))
        asked.close()
        facts = [json.loads(line) for line in answers]
        facts = [fact.get("source", fact) for fact in facts]  # of the program that packs
    os.waitpid(child, 0)
    crashed = len(facts) < len(requests)
    facts += [None] * (len(requests) - len(facts))
    said = [
        f"{request[0]}: {fact['error'] if fact else 'decoder crashed'}"
        for request, fact in zip(requests, facts, strict=True)
        if not (fact and fact["ok"])
    ]
    return Result(BAD if said or crashed else RIGHT, facts, "\n".join(said))
