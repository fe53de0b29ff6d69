"""List every exp: its model and data, batch size and learning rate, starting weights and source.

    python -m videomae.recipes
    python -m videomae.recipes stage=finetune match=ucf101

stage=pretrain or stage=finetune shows those of one command, match=TEXT those whose names hold it.
Steps are those of the published training list (data.num_train), "?" where its length is unknown;
lr is optim.lr or optim.base_lr x batch / 256. What a source does not say is under "Unknown:" in the
exp's file, configs/exp/NAME.yaml. Exps of your own are listed too: --config-dir=DIR, for DIR/exp.
Piped, the table is Markdown; narrow terminals want `| less -S`.
"""

from videomae.config import ConfigError, RecipesConfig
from videomae.run.command import command

LEAST, WIDE = 160, 1000
"""Line width in characters: the least on a terminal, and the most elsewhere."""


def recipes(config: RecipesConfig) -> None:
    """Print the table of the exps."""
    from rich import box
    from rich.console import JustifyMethod
    from rich.table import Table
    from rich.text import Text

    from videomae.run.console import SafeConsole
    from videomae.run.given import given
    from videomae.train.recipes import COLUMNS, NUMBERS, WORDS, exps, read_header, row

    console = SafeConsole(highlight=False)
    console.width = max(console.width, LEAST) if console.is_terminal else WIDE
    table = Table(box=box.SIMPLE if console.is_terminal else box.MARKDOWN)
    for column in COLUMNS:
        justify: JustifyMethod = "right" if column in NUMBERS else "left"
        no_wrap = column not in WORDS
        table.add_column(column, justify=justify, no_wrap=no_wrap, overflow="fold")
    folders = given(config).folders
    for exp in exps(folders):
        header = read_header(exp)
        if config.match in exp.stem and config.stage in (None, header.stage):
            table.add_row(*map(Text, row(exp, header, folders)))
    if not table.rows:
        of = f" of stage={config.stage.name}" if config.stage else ""
        raise ConfigError(f"no exp{of} has {config.match!r} in its name; without match= all show")
    with console.capture() as printed:
        console.print(table)
    lines = [line.rstrip() for line in printed.get().splitlines()]
    print("\n".join(filter(None, lines)))


main = command("recipes")(recipes)

if __name__ == "__main__":
    main()
