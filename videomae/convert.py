"""Convert weights between the formats of this project, the VideoMAE code and Hugging Face.

    python -m videomae.convert weights=PATH out=FILE.safetensors format=videomae
    python -m videomae.convert weights=PATH out=FILE.pth         format=official
    python -m videomae.convert weights=PATH out=DIRECTORY        format=huggingface

weights=PATH is of any released kind: a run directory, an official .pth, a DeepSpeed or Hugging Face
directory; pre-training models and classifiers. What was loaded, what had to be assumed and what the
format cannot hold is printed; what was written is read again and compared bit by bit.

    num_heads=N decoder_num_heads=N   attention heads, where neither the file nor a preset says
    frames=N size=N stride=N          what they were trained on, where the file does not say
    class_names=FILE                  line i names class i
    head_map=FILE                     JSON list: row of the head for each class of the result
    overwrite=true                    replace what is there
    target=PATH                       earlier name of out=

Clip lists are converted too, from text to Parquet and back:

    python -m videomae.convert list=clips.txt out=clips.parquet list_format=video_label
"""

from dataclasses import replace
from pathlib import Path

from videomae.config import ConfigError, ConvertConfig
from videomae.run.command import command


def convert(config: ConvertConfig) -> None:
    """Write config.weights to config.out, as config.format says."""
    from videomae.lists.converting import convert_listed
    from videomae.lists.names import read_names
    from videomae.run.checks import require
    from videomae.run.console import tell
    from videomae.weights import converting
    from videomae.weights.formats import read_weights, write_weights
    from videomae.weights.load import model_of, pick_classes

    if config.list is not None:
        convert_listed(config)
        return
    require(config, "weights", *([] if config.place else ["out"]), "format")
    assert config.format is not None
    target = Path(str(config.place))
    converting.check_target(config, target)

    heads, decoder_heads = config.num_heads, config.decoder_num_heads
    weights = read_weights(str(config.weights), num_heads=heads, decoder_num_heads=decoder_heads)
    converting.check_not_source(config, target, weights)
    weights = converting.with_settings(weights, config)
    if config.head_map is not None:
        weights = pick_classes(weights, config.head_map)
    if config.class_names is not None:
        if weights.info.classes is None:
            raise ConfigError(f"class_names={config.class_names}: {weights.path} has no classes")
        count = "the number of classes"
        names = read_names(config.class_names, weights.info.classes, "class_names", count)
        weights = replace(weights, info=replace(weights.info, class_names=names))
    model, report = model_of(weights)
    tell(f"{weights.path}: {report}")
    tell(f"  {converting.described(weights.info)}")

    info = replace(weights.info, parents=weights.chain())
    lost = write_weights(target, config.format, model.state_dict(), info)
    converting.check_written(target, weights)
    tell(f"{target}: {config.format.name}, {len(report.loaded)} tensors, equal bit by bit")
    notes = [f"not held by this format: {note}" for note in lost]
    for note in (*notes, *converting.assumption(info)):
        tell(f"  {note}")


main = command("convert")(convert)

if __name__ == "__main__":
    main()
