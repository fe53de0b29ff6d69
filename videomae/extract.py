"""Write the features of whole videos: those of a frozen encoder for each window of frames.

    python -m videomae.extract weights=RUN_OR_FILE video=FILE_OR_DIR output_dir=DIR
    torchrun --nproc-per-node 8 -m videomae.extract weights=... list=LIST root=DIR output_dir=DIR

weights= is of any released kind: of a pre-training, a classifier, an encoder alone. A window is a
clip of the size that the weights were trained on, the centre crop of frames x stride frames of the
video. A window begins every hop= frames (default: the length of a window); if frames are left over,
a last window ends with the video. Each video gets one file, under its own relative path, and a
range of one in a Parquet list too, as x.mp4.frames13-40.npy:

    pool=mean     features (W, D): the mean of each window's tokens
    pool=none     features (W, N, D): N = T/tubelet * H/patch * W/patch tokens, time-major: all of
                  the first frames row by row, then of the next. There is no class token
    dtype=float32 or float16
    format=safetensors (the tensor `features`) or npy (the array itself)

manifest.jsonl holds path, file, shape, the windows' first frames (starts), frames and stride of
each, num_frames and fps of each video, or its error. The same command continues where it was
stopped: videos in the manifest whose file exists are skipped; unreadable ones are tried again.
Other files are not replaced. Several processes under torchrun share the list.
"""

import logging
from dataclasses import replace

from videomae.config import ExtractConfig
from videomae.run.command import command

logger = logging.getLogger("videomae.extract")


def extract(config: ExtractConfig) -> None:
    """Write the features of config.video, or of the videos of config.list."""
    from videomae.data.sliding_windows import VideoWindows
    from videomae.evaluation import extracting
    from videomae.evaluation.extracted import FeatureDirectory, described, key_of
    from videomae.evaluation.features import FeatureExtractor
    from videomae.lists.walk import told
    from videomae.run.checks import check_place
    from videomae.run.directory import alone
    from videomae.run.run import open_run
    from videomae.weights.formats import read_weights
    from videomae.weights.load import encoder_of
    from videomae.weights.usage import with_stride

    extracting.check_extraction(config)
    with open_run(config.run, config.output_dir) as run:
        directory, process = run.directory, run.processes
        check_place("output_dir", directory)
        data, selection = extracting.videos_of(config)
        clips = selection.clips
        for line in told(selection.left_out):
            logger.info(line)
        weights = read_weights(
            str(config.weights),
            num_heads=config.num_heads,
            decoder_num_heads=config.decoder_num_heads,
        )
        weights, clip, lines = with_stride(weights, config.stride)
        data = replace(data, clip=clip)
        hop = config.hop or clip.frames * clip.stride
        model, report = encoder_of(weights, clip)
        for line in (f"{weights.path}: {report}", *lines):
            logger.info(line)
        settings = extracting.settings_of(config, data, hop, weights.sha256(), process)
        del weights  # as large as the model
        with alone(directory, is_main=run.is_main):
            output = FeatureDirectory(directory, config.format)
            pending: list[int] = []
            if process.is_main:
                output.open(settings, clips)
                output.note_unusable(selection.unusable)
                done = output.done()
                pending = [i for i, clip in enumerate(clips) if key_of(described(clip)) not in done]
                if done:
                    logger.info(f"going on in {directory}: {len(clips) - len(pending)} are done")
            pending = process.from_main(pending)
            share = [clips[index] for index in pending[process.rank :: process.world]]
            encoder = FeatureExtractor(model, process.device, config.run.precision)
            batch = config.run.untrained_batch
            extracting.extract_features(
                run, config, encoder, VideoWindows(share, data, hop, batch), output
            )
            process.barrier()
            if process.is_main:
                extracting.finish(output, selection)


main = command("extract")(extract)

if __name__ == "__main__":
    main()
