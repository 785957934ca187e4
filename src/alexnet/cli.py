"""The command line: words -> one of the commands -> its exit code."""

import dataclasses
import io
import sys
from collections.abc import Callable

import tyro

from alexnet.commands.about import Doctor, Recipes
from alexnet.commands.data import DataCheck, DataFetch, DataPrepare, DataSubset
from alexnet.commands.deliver import Export, Serve, Webcam
from alexnet.commands.describe import Describe
from alexnet.commands.evaluate import Eval, Explain, Report
from alexnet.commands.predict import Predict
from alexnet.commands.sweep import Sweep
from alexnet.commands.train import Train
from alexnet.commands.weights import WeightsFetch, WeightsImport, WeightsList
from alexnet.console import on_console
from alexnet.errors import AlexNetError, InputError, did_you_mean
from alexnet.presets import BY_DATA, default_recipe, preset, study

Command = (
    Train
    | Sweep
    | Eval
    | Predict
    | Explain
    | Export
    | Serve
    | Webcam
    | Report
    | Describe
    | Recipes
    | DataFetch
    | DataPrepare
    | DataCheck
    | DataSubset
    | WeightsFetch
    | WeightsImport
    | WeightsList
    | Doctor
)
COMMANDS: dict[str, Callable[..., Command]] = {
    "train": Train,
    "sweep": Sweep,
    "eval": Eval,
    "predict": Predict,
    "explain": Explain,
    "export": Export,
    "serve": Serve,
    "webcam": Webcam,
    "report": Report,
    "describe": Describe,
    "recipes": Recipes,
    "data fetch": DataFetch,
    "data prepare": DataPrepare,
    "data check": DataCheck,
    "data subset": DataSubset,
    "weights fetch": WeightsFetch,
    "weights import": WeightsImport,
    "weights list": WeightsList,
    "doctor": Doctor,
}
ABOUT = "A folder of images in, a trained and honestly evaluated AlexNet classifier out."


def parse(arguments: list[str]) -> Command:
    """The command that the arguments describe."""
    two = arguments[:1] in (["data"], ["weights"])
    words = " ".join(arguments[:2]) if two else "".join(arguments[:1])
    if words in COMMANDS:
        rest = arguments[len(words.split()) :]
        if words in ("train", "sweep"):
            return parse_with_recipe(words, rest)
        return tyro.cli(COMMANDS[words], prog=f"alexnet {words}", args=rest)
    if words and not words.startswith("-") and not set(arguments) & {"-h", "--help"}:
        raise InputError(f"there is no command {words!r}.", did_you_mean(words, COMMANDS))
    asked: Command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="alexnet", description=ABOUT, args=["--help"]
    )
    return asked


def parse_with_recipe(words: str, arguments: list[str]) -> Train | Sweep:
    """`train` or `sweep`, with the values of the named recipe or study, or else of the recipe that
    suits the data, as defaults of all flags.

    Which word is DATA is known for certain only afterwards; if it was another than guessed, the
    arguments are read again.
    """
    kind: type[Train | Sweep] = Train if words == "train" else Sweep
    name = value_of("--recipe", arguments)
    named = value_of("--study", arguments) if words == "sweep" else ""
    if named:
        one = study(named)
        if name not in ("", one.recipe):
            raise InputError(
                f"the study {named} has a recipe, {one.recipe}.", "Leave out --recipe."
            )
        fields = dataclasses.replace(preset(one.recipe).recipe, **one.changes)
        default = Sweep(data=one.data, recipe=one.recipe, seeds=one.seeds, fields=fields)
        return tyro.cli(Sweep, prog="alexnet sweep", args=arguments, default=default)
    # a sweep needs rates that matter, and goes on with what earlier releases began
    otherwise = "folder" if words == "train" else "scratch"
    guess = next((word for word in arguments if word in BY_DATA), "")
    while True:
        recipe = default_recipe(guess, name or None, otherwise)
        found = tyro.cli(
            kind,
            prog=f"alexnet {words}",
            args=arguments,
            default=kind(data=tyro.MISSING, recipe=name, fields=recipe),
        )
        if name or BY_DATA.get(found.data) == BY_DATA.get(guess):
            return found
        guess = found.data


def value_of(flag: str, arguments: list[str]) -> str:
    """The value of a flag, looked up before the others are read."""
    for place, word in enumerate(arguments):
        if word == flag and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 1 (it failed), 2 (wrong input), 130 (stopped)."""
    for stream in (sys.stdout, sys.stderr):  # a letter that a console lacks is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with on_console():
            parse(sys.argv[1:] if arguments is None else arguments).run()
    except AlexNetError as error:
        print(f"alexnet: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("alexnet: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `alexnet recipes | head -1`
        sys.stderr.close()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
