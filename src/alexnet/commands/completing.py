"""Scripts by which shells complete the whole command line: commands, flags, their values."""

import argparse
from collections.abc import Mapping, Sequence

import shtab

from alexnet.commands.flags import Flag, add_argument
from alexnet.presets import RECIPES, STUDIES

Commands = Mapping[str, Sequence[Flag]]  # the words of each command, and its arguments

# what may stand for the values of a field, besides what its type says
VALUES = {
    "recipe": list(RECIPES),
    "study": list(STUDIES),
    "device": ["auto", "cpu", "cuda", "mps"],
    "weights": ["none"],
    "data": ["digits", "cifar10", "tiny-imagenet", "tiny-image10"],
}
LOADED = {"zsh": "autoload -U +X compinit && compinit"}  # what it needs, where nobody did it before


def script(commands: Commands, shell: str) -> str:
    """What a shell has to evaluate; files are completed where nothing else is known."""
    parser = argparse.ArgumentParser("alexnet", add_help=False)
    parser.add_argument("--version", action="store_true", help="show the version")
    groups = {"": parser.add_subparsers()}
    for words, flags in commands.items():
        group, _, name = words.rpartition(" ")
        if group not in groups:
            groups[group] = groups[""].add_parser(group, help=group).add_subparsers()
        command = groups[group].add_parser(name, help=name)
        for flag in flags:
            action = add_argument(command, flag)
            action.help = (action.help or "").split(". ")[0].rstrip(".")
            action.choices = flag.choices or VALUES.get(flag.field)
            if not action.choices and action.nargs != 0:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    named = [*groups[""].choices]
    groups[""].add_parser("help", help="help").add_argument("command", choices=named)
    return f"{LOADED.get(shell, '')}\n{shtab.complete(parser, shell)}"
