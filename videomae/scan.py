"""Decode every video of a clip list, report the damaged ones, and write a list without them.

    python -m videomae.scan list=LIST root=DIR out=DIR

Each video is decoded from its first frame to its last, on all cores, by a decoder that fails where
others conceal damage. A video that crashes the decoder counts as damaged, as does one whose
process is killed from outside twice. Written are

    out/scan.parquet      a row of each line: path, line, ok, error, duration_s, num_frames (as
                          decoded), fps, width, height (after rotation), codec, bytes
    out/clean.txt         the list without the damaged lines: train on it with data.train_list=;
                          of a Parquet list, clean.parquet
    out/progress.jsonl    what is done so far; the same command goes on from it, and decodes anew
                          only files that have changed since

    list_format= frame_template= first_frame=    as data.list_format and so on: see data_lists
    workers=N                                    decoding processes; by default one per core
    timeout_s=600                                a video that takes longer counts as damaged
"""

from pathlib import Path

from videomae.config import ScanConfig
from videomae.run.command import command
from videomae.run.console import log_to_console


@log_to_console()
def scan(config: ScanConfig) -> None:
    """Decode the videos of config.list, and write a table of them and a list of the undamaged."""
    from videomae.data.checks import listed_data, read_list
    from videomae.data.forgetting import warn_of_unmatched
    from videomae.lists.clips import write_without
    from videomae.run.checks import check_place, require
    from videomae.run.cores import available_cores
    from videomae.video import scan_files
    from videomae.video.inspecting import Job, inspect_resumably
    from videomae.video.packs import refuse_pack

    require(config, "list", "root", "out")
    refuse_pack(Path(str(config.root)))
    source, out = Path(str(config.list)), Path(str(config.out))
    check_place("out", out)
    scan_files.check_scan_place(out, source)
    data = listed_data(config)
    clips = read_list(str(source), data, labelled=False, key="list")
    warn_of_unmatched({"list": clips})

    jobs = {clip.line: Job.of_clip(clip, data) for clip in clips}
    found = inspect_resumably(
        jobs.values(),
        out / scan_files.PROGRESS,
        config.workers or available_cores(),
        config.timeout_s,
        max_bytes=config.max_clip_bytes,
    )
    results = [(clip, found[jobs[clip.line]]) for clip in clips]

    scan_files.write_table(out / scan_files.TABLE, results)
    damaged = {clip.line for clip, inspection in results if not inspection.ok}
    left_out = f"{len(damaged)} of {len(results)} videos left out: see {scan_files.TABLE}"
    clean = scan_files.clean_list(out, source)
    write_without(clean, source, damaged.union(clips.left_out), left_out if damaged else None)
    scan_files.print_summary(out, clean, results)


main = command("scan")(scan)

if __name__ == "__main__":
    main()
