"""The command line: words -> one of the commands -> its exit code."""

import contextlib
import dataclasses
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

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
from alexnet.errors import AlexNetError, DiskError, InputError, did_you_mean, want_of_memory
from alexnet.presets import BY_DATA, default_recipe, preset, study
from alexnet.words import shown

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
TAKES_NO_MORE = {errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF}
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
    guess = next((word for word in arguments if word in BY_DATA), "")
    while True:
        recipe = default_recipe(guess, name or None)
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
    code, words = 0, ""
    if sys.stderr is None:  # closed: the next file that is opened would get what is said
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):  # a letter that a console lacks is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with on_console(), output():
            parse(sys.argv[1:] if arguments is None else arguments).run()
    except AlexNetError as error:
        code, words = error.exit_code, str(error)
    except KeyboardInterrupt:
        code, words = 130, "stopped."
    except BrokenPipeError:  # the reader of our output has gone, as in `alexnet recipes | head -1`
        code = 1
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        code, words = 1, of_the_machine(error)
        if not words:
            raise
    try:
        if words:
            print(f"alexnet: {words}", file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        let_go(sys.stderr)
    return code


@contextlib.contextmanager
def output() -> Iterator[None]:
    """While the block runs there is a standard output; afterwards it has taken what was written.

    Raises:
        InputError: it is closed. DiskError: the disk behind it is full. BrokenPipeError: its
        reader has gone.
    """
    if sys.stdout is None:  # the next file that is opened would get what is printed
        raise InputError("standard output is closed.", "Redirect it instead: > /dev/null")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            let_go(sys.stdout)
            raise
        if error.filename is not None or error.errno not in TAKES_NO_MORE:  # no stream's
            raise
        let_go(sys.stdout)
        if isinstance(error.__context__, AlexNetError):  # what went wrong before is what is told
            raise error.__context__ from None
        raise DiskError(
            f"standard output takes no more: {error.strerror}.",
            "Free some space, or print to another place.",
        ) from error


def let_go(stream: TextIO) -> None:
    """What could not be written goes nowhere; Python would try again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def of_the_machine(error: BaseException) -> str:
    """What to say of an error that is the machine's: no memory, or a file that the system does not
    give or take; empty for one that is a mistake of this program."""
    if want_of_memory(error):
        return (
            "there is not enough memory.\nEnd other programs, or take less at once: a smaller "
            "--batch-size, --image-size or network."
        )
    if isinstance(error, OSError):
        where = f"{shown(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror or error}.\nCheck the disk, the path and its permissions."
    return ""


if __name__ == "__main__":
    sys.exit(main())
