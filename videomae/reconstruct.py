"""Draw a reconstruction of a video by a pre-trained model: original, masked and rebuilt frames.

    python -m videomae.reconstruct weights=RUN_OR_FILE video=FILE

The model predicts pixels without the mean and the contrast of each tubelet; for the picture each
rebuilt tubelet gets those of the original video, which makes colours and shading look better.

    output_dir=DIR                where the picture goes, by default the current directory
    output=reconstruction.png     the picture, relative to output_dir; a whole path is taken as is
    mask_kind=tube mask_ratio=0.9 what is hidden; default: as the weights were trained
    start=N stride=N              first frame (default: the middle clip), frames between two
    seed=N                        random seed of the mask
"""

import os

from videomae.config import ConfigError, ReconstructConfig
from videomae.run.command import command


def reconstruct(config: ReconstructConfig) -> None:
    """Draw one clip of config.video: original, masked and reconstructed."""
    from videomae.evaluation.reconstruction import clip_and_mask, rebuilt, title_of
    from videomae.model.mae import VideoMAE
    from videomae.pictures.figures import STATISTICS, save_reconstructions
    from videomae.run.checks import check_place, require
    from videomae.run.console import tell
    from videomae.run.parallel import processes
    from videomae.video.opening import check_decoder
    from videomae.weights.formats import read_weights
    from videomae.weights.load import check_kind, model_of
    from videomae.weights.usage import with_stride
    from videomae.weights.weights import Kind

    require(config, "weights", "video")
    check_decoder(config.decoder)
    picture = config.picture
    if picture.suffix != ".png" or os.path.isdir(picture):
        raise ConfigError(f"output={config.output} must name a picture, NAME.png")
    check_place("output", picture.parent)

    heads, decoder_heads = config.num_heads, config.decoder_num_heads
    weights = read_weights(str(config.weights), num_heads=heads, decoder_num_heads=decoder_heads)
    check_kind(weights, Kind.pretrain)
    weights, clip, told = with_stride(weights, config.stride)
    model, report = model_of(weights)
    assert isinstance(model, VideoMAE)
    for line in (f"{weights.path}: {report}", *told):
        tell(line)
    source = clip_and_mask(config, weights.info, clip)

    with processes(config.run) as process:
        rows = rebuilt(model.to(process.device), source, config.run.precision)
    save_reconstructions(picture, rows, title_of(weights.info, source))
    first, last = source.indices[0], source.indices[-1]
    tell(f"{picture}: frames {first} to {last} of {config.video}; {STATISTICS}")


main = command("reconstruct")(reconstruct)

if __name__ == "__main__":
    main()
