"""The program videomae: every command as videomae VERB ..., and completion for shells.

videomae                     what there is
videomae pretrain --help     the same as python -m videomae.pretrain --help
eval "$(videomae completion bash)"     complete verbs, settings and configs; also zsh, fish
"""

import ast
import importlib
import importlib.util
import signal
import sys
from difflib import get_close_matches
from pathlib import Path

from videomae.run.schema import COMMANDS


def main() -> None:
    """Run the command that the first word names."""
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h", "--version", "completion"):
        try:
            _print_about(verb, rest)
        except BrokenPipeError:
            from videomae.run.command import quit_silently

            quit_silently()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        return
    if verb not in COMMANDS:
        near = get_close_matches(verb, COMMANDS, 1)
        advice = f"did you mean {near[0]}?" if near else f"there are {' '.join(COMMANDS)}"
        print(f"error: there is no command {verb!r}; {advice}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"videomae.{verb}", *rest]
    importlib.import_module(_module(verb)).main()


def _print_about(verb: str, rest: list[str]) -> None:
    """Print what the program itself can tell: its overview, its version, words of completion.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    if verb == "--version":
        import videomae

        print(videomae.__version__)
    elif verb == "completion":
        from videomae.run.completion import main as complete

        sys.argv[1:] = rest
        complete()
    else:
        print(_overview())
    sys.stdout.flush()


def _module(verb: str) -> str:
    """Return the name of the module of a command."""
    name = f"videomae.{verb}"
    package = (Path(__file__).parent / verb).is_dir()
    return f"{name}.__main__" if package else name


def _overview() -> str:
    """Return the overview of all commands, a line each, without importing them."""
    lines = [str(__doc__).rstrip(), ""]
    for verb in COMMANDS:
        place = importlib.util.find_spec(_module(verb))
        assert place is not None
        assert place.origin is not None
        text = ast.get_docstring(ast.parse(Path(place.origin).read_text(encoding="utf-8"))) or ""
        lines.append(f"    {verb:<12} {text.splitlines()[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
