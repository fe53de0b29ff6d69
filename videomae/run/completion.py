"""Completion of `videomae VERB KEY=VALUE` in bash, zsh and fish, from the fields of the configs."""

import sys
from collections.abc import Sequence
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

from videomae.config.settings import all_settings, listed_settings
from videomae.run.overrides import folders_of, groups_of
from videomae.run.schema import COMMANDS

SHELLS = {
    "bash": """_videomae() {
  local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT}
  local word=${line##* } part=${COMP_WORDS[COMP_CWORD]} offset
  COMPREPLY=($(videomae completion words "$line" 2> /dev/null))
  while [[ $word != *"$part" ]]; do part=${part%?}; done  # up to the cursor
  if [[ ${#COMPREPLY[@]} -eq 0 && $word == *=* ]]; then  # a path
    COMPREPLY=($(compgen -f -- "${word#*=}"))
    [[ $part == ?*=* ]] && word=${word#[\\'\\"]} && COMPREPLY=("${COMPREPLY[@]/#/${word%%=*}=}")
    compopt -o filenames
    return
  fi
  offset=${word%"$part"}  # bash splits words at = and :
  [[ $part == = ]] && offset=$word
  COMPREPLY=("${COMPREPLY[@]#"$offset"}")
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o nosort -F _videomae videomae""",
    "zsh": """_videomae() {
  local -a found
  found=("${(@f)$(videomae completion words "${LBUFFER}" 2> /dev/null)}")
  if [[ -z "${found[1]}" ]]; then
    compset -P '*=' && _files
    return
  fi
  compadd -Q -S '' -a found
}
autoload -Uz compinit && compinit -u
compdef _videomae videomae""",
    "fish": """complete -c videomae -f -a '(videomae completion words (commandline -cp))'""",
}


def main() -> None:
    """Print the completion script of a shell, or the words that complete a command line."""
    words = sys.argv[1:]
    if words[:1] == ["words"] and len(words) == 2:
        print("\n".join(completions(words[1])))
    elif len(words) == 1 and words[0] in SHELLS:
        print(SHELLS[words[0]])
    else:
        print(f"error: videomae completion {'|'.join(SHELLS)}", file=sys.stderr)
        sys.exit(2)


def completions(line: str) -> list[str]:
    """Return the words that the last, unfinished word of a command line may become.

    Args:
        line: the command line up to the cursor: the program, the command, its overrides.
    """
    *before, last = line.split(" ")
    before = [word for word in before if word]
    if len(before) < 2:
        return [verb for verb in (*COMMANDS, "completion") if verb.startswith(last)]
    config_class = COMMANDS.get(before[1])
    if config_class is None:
        return []
    key, is_value, value = last.partition("=")
    groups = groups_of(config_class, folders_of(before))
    if not is_value:
        plus = "+" if key.startswith("+") else ""
        names = [*_named(groups), *(each.key for each in _by_use(config_class))]
        return [f"{name}=" for name in names if name.startswith(plus) and name.startswith(key)]
    bare = key.lstrip("+")
    choices = groups.get(bare) or _values(config_class, bare)
    return [f"{key}={choice}" for choice in choices if choice.startswith(value)]


def _named(groups: dict[str, list[str]]) -> Sequence[str]:
    """Return the names of the groups as they stand before =; an exp needs a plus."""
    return [f"+{name}" if name == "exp" else name for name in groups]


def _by_use(config_class: type) -> list[Any]:
    """Return the settings of a command, those that users give often first."""
    return sorted(listed_settings(config_class), key=lambda known: not known.rules.often)


def _values(config_class: type, key: str) -> list[str]:
    """Return the possible values of a setting, if it is an enum or a bool; else an empty list."""
    for known in all_settings(config_class):
        if known.key == key:
            if known.rules.choices:
                return list(known.rules.choices)
            kinds = (known.kind,)
            if get_origin(known.kind) in (Union, UnionType):
                kinds = get_args(known.kind)
            for kind in kinds:
                if isinstance(kind, type) and issubclass(kind, Enum):
                    return [each.name for each in kind]
                if kind is bool:
                    return ["true", "false"]
    return []
