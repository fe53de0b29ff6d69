"""Draw a reconstruction of a video by a pre-trained model: original, masked and rebuilt frames.

    python -m videomae.reconstruct weights=RUN_OR_FILE video=FILE

The model predicts pixels without the mean and the contrast of each tubelet; for the picture each
rebuilt tubelet gets those of the original video, which makes colours and shading look better.

    output=reconstruction.png     the picture
    mask_kind=tube mask_ratio=0.9 what is hidden; default: as the weights were trained
    start=N stride=N              first frame (default: the middle clip), frames between two
    seed=N                        random seed of the mask
"""

import os
from pathlib import Path

from videomae.config import ConfigError, ReconstructConfig
from videomae.run.command import command


def reconstruct(config: ReconstructConfig) -> None:
    """Draw one clip of config.video: original, masked and reconstructed."""
    from videomae.evaluation.reconstruction import draw_mask, read_clip
    from videomae.model.mae import VideoMAE
    from videomae.model.pixels import normalise
    from videomae.pictures.figures import STATISTICS, reconstruction_rows, save_reconstructions
    from videomae.run.checks import check_place, require
    from videomae.run.console import tell
    from videomae.run.parallel import processes
    from videomae.video.opening import check_decoder
    from videomae.weights.formats import read_weights
    from videomae.weights.load import check_kind, model_of
    from videomae.weights.weights import Kind

    require(config, "weights", "video")
    check_decoder(config.decoder)
    if Path(config.output).suffix != ".png" or os.path.isdir(config.output):
        raise ConfigError(f"output={config.output} must name a picture, NAME.png")
    check_place("output", Path(config.output).parent)

    heads, decoder_heads = config.num_heads, config.decoder_num_heads
    weights = read_weights(str(config.weights), num_heads=heads, decoder_num_heads=decoder_heads)
    check_kind(weights, Kind.pretrain)
    model, report = model_of(weights)
    assert isinstance(model, VideoMAE)
    tell(f"{weights.path}: {report}")
    kind, mask = draw_mask(config, weights.info)
    frames, indices = read_clip(config, weights.info)

    with processes(config.run) as process:
        model.to(process.device).eval()
        pixels = normalise(frames[None].to(process.device))
        rows = reconstruction_rows(model, pixels, mask[None], config.run.precision)
    title = f"{weights.info.name}, {kind.name} mask, {mask.float().mean():.0%} hidden"
    save_reconstructions(Path(config.output), rows, title)
    tell(f"{config.output}: frames {indices[0]} to {indices[-1]} of {config.video}; {STATISTICS}")


main = command("reconstruct")(reconstruct)

if __name__ == "__main__":
    main()
