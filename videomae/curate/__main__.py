"""Make clip lists of raw videos: measure, choose by rules, and keep every reason.

    python -m videomae.curate source=/data/raw out=corpus rules=tiktok        # all stages
    python -m videomae.curate out=corpus stage=select rules.motion_min=0.02   # seconds, no decoding
    python -m videomae.curate out=corpus stage=subset 'sizes=[1000,10000,all]' \\
        by='[random,quality,balanced]' seed=0
    python -m videomae.curate out=corpus forget=deletions.txt

Raw files are never altered, and nothing is downloaded. The stages are

    sources    the videos below a folder, or those that a text file lists; SHA-256 of each, and what
               yt-dlp's .info.json beside it says: hashtags, views, date, licence; uploaders as a
               salted hash
    measure    decodes each video once: cuts (PySceneDetect's rules), sharpness, light, bars,
               motion, frozen pictures, a small thumbnail, a fingerprint
    duplicates finds clips that are copies of each other: cropped, mirrored, faster, with text, ...
    contamination
               finds clips that show a video of the test lists tests=[...], and measures how many of
               such copies it finds; out/contamination.html shows the pairs side by side
    persons    frames with people, how tall, how many faces; by persons.weights=, persons.detector=
               or persons.detections=
    text       how much of the picture text covers; text.model=rapidocr
    embed      features and clusters; embed.weights=, embed.clusters=
    select     keep or not, and every reason against a clip, by the rules; no decoding
    subset     lists of so many of the kept clips, each holding the smaller ones
    page       a page to look at: out/page/index.html

Written are out/clips.parquet, a row a clip, out/sources.parquet, out/rules_used.yaml and, for
data.train_list=, out/lists/*.parquet. No clip loses its row: what is dropped has its reasons. A
score that was not measured is null, and a clip that a rule cannot judge is neither kept nor
dropped. A video that crashes the decoder or takes too long is named, and has a row with the error.
Stages persons, text and embed look at the clips that the rules leave, and run if their model is
given.
The same command goes on where it was stopped.

    tests='[LIST,PREPARED]'       test lists, or directories of prepare, for stage contamination
    scenes=longest|all|fixed      which clips of a video count: its longest scene, all scenes, or
                                  pieces of cuts.fixed_s seconds
    rules=tiktok|loose|none       rules; each can be changed, as rules.sharpness_min=5% (a quantile)
    hashtags=FILE                 which hashtags count and mean the same: see docs/curate.md
    judged=FILE                   clips that you have judged (see out/page/judge.html): precision
                                  and recall of the rules, on the page
    forget=FILE used_by='[DIR]'   remove videos from all that was written, keep tombstones, and name
                                  the packs and runs that used them

Whether you may keep and use the videos is for you to find out: the terms of the platform, the law,
and the people in them.
"""

from pathlib import Path

from videomae.config import CurateConfig
from videomae.run.command import command
from videomae.run.console import log_to_console


@log_to_console()
def curate(config: CurateConfig) -> None:
    """Run the stages of config.stage in config.out, or forget what config.forget names."""
    from videomae.curate.stages import needed, run_stages
    from videomae.run.checks import check_place, require
    from videomae.run.directory import alone

    require(config, *needed(config))
    out = Path(str(config.out))
    check_place("out", out)
    with alone(out, key="out", does="curating"):
        run_stages(config, out)


main = command("curate")(curate)

if __name__ == "__main__":
    main()
