"""The command line: words -> one of the commands -> its exit code."""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol, TextIO

from alexnet.commands.about import Bench, Doctor, Recipes
from alexnet.commands.data import DataCheck, DataFetch, DataPrepare, DataSubset
from alexnet.commands.deliver import Export, Serve, Teach, Webcam
from alexnet.commands.describe import Describe
from alexnet.commands.evaluate import Eval, Explain, Report
from alexnet.commands.flags import (
    Arg,
    Flag,
    checked_arguments,
    first_sentence,
    flags,
    help_page,
    read,
    takes_recipe,
)
from alexnet.commands.next import LearningCurve, Suggest
from alexnet.commands.predict import Predict
from alexnet.commands.sweep import Sweep
from alexnet.commands.train import Repeat, Resume, Train
from alexnet.commands.weights import WeightsFetch, WeightsImport, WeightsList
from alexnet.console import complain, on_console, width
from alexnet.errors import (
    AlexNetError,
    DiskError,
    InputError,
    RecipeError,
    did_you_mean,
    needs_extra,
    want_of_memory,
)
from alexnet.presets import default_recipe, preset_for, study
from alexnet.ranks import require_one, voice
from alexnet.recipes import Recipe
from alexnet.words import shown, typed


class Command(Protocol):
    """What stands behind the words of a command."""

    def run(self) -> None: ...


@dataclass(kw_only=True)
class Completion:
    """Print what makes a shell complete commands, flags and their values.

    In ~/.bashrc: eval "$(alexnet completion bash)"; in ~/.zshrc: eval "$(alexnet completion zsh)";
    in ~/.config/fish/config.fish: alexnet completion fish | source
    """

    shell: Annotated[
        Literal["bash", "zsh", "fish"],
        Arg(metavar="SHELL", help="bash, zsh or fish", positional=True),
    ]

    def run(self) -> None:
        from alexnet.commands.completing import script

        every = {words: [*flags(kind), *recipe_fields(kind)] for words, kind in COMMANDS.items()}
        print(script(every, self.shell))


COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "resume": Resume,
    "repeat": Repeat,
    "sweep": Sweep,
    "eval": Eval,
    "predict": Predict,
    "explain": Explain,
    "report": Report,
    "learning-curve": LearningCurve,
    "suggest": Suggest,
    "describe": Describe,
    "export": Export,
    "serve": Serve,
    "teach": Teach,
    "webcam": Webcam,
    "data prepare": DataPrepare,
    "data check": DataCheck,
    "data subset": DataSubset,
    "data fetch": DataFetch,
    "weights fetch": WeightsFetch,
    "weights import": WeightsImport,
    "weights list": WeightsList,
    "recipes": Recipes,
    "doctor": Doctor,
    "bench": Bench,
    "completion": Completion,
}
TAKES_NO_MORE = {errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF}
ABOUT = "A folder of images in, a trained and honestly evaluated AlexNet classifier out."
HELP = {"-h", "--help", "--help-all"}


def parse(arguments: Sequence[str]) -> Command | None:
    """The command that the arguments describe; None where they ask for words, which are printed.

    Raises:
        InputError: they describe none.
    """
    arguments = list(arguments)
    if arguments[:1] in (["--version"], ["-V"]):
        from alexnet import __version__

        print(f"alexnet {__version__}")
        return None
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    words = command_words(arguments)
    rest = arguments[len(words.split()) :]
    if words not in COMMANDS:  # nothing, or the first word of several
        if unknown := [one for one in rest if one not in HELP]:
            raise no_command(" ".join([words, unknown[0]]).strip())
        print("\n".join(overview(words)))
        return None
    until = rest.index("--") if "--" in rest else len(rest)
    if asked := HELP.intersection(rest[:until]):
        print(told(words, rest, every="--help-all" in asked))
        return None
    kind = COMMANDS[words]
    known = flags(kind, told=False)
    fields = recipe_fields(kind, told=False)
    given = read([*known, *fields], rest, words)
    own = {one.field: given.pop(one.field) for one in fields if one.field in given}
    if fields:
        given = with_recipe(given, own)
    return kind(**checked_arguments(known, given, words))


def command_words(arguments: Sequence[str]) -> str:
    """The words at the beginning that name a command, or several: "train", "data prepare",
    "data"."""
    for count in (2, 1):
        words = " ".join(arguments[:count])
        if words in COMMANDS or any(one.startswith(f"{words} ") for one in COMMANDS):
            return words if arguments[:count] else ""
    return ""


def no_command(words: str) -> InputError:
    """The error of words that are no command."""
    known = [*COMMANDS, "help"]
    if words.split()[0] in ("data", "weights"):
        known = [one for one in COMMANDS if one.startswith(words.split()[0])]
    hint = "" if words.startswith("-") else f"{did_you_mean(words, known)} "
    return InputError(f"there is no command {words!r}.", f"{hint}`alexnet help` lists all.")


def with_recipe(given: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the whole recipe among them: what the preset, the study or the file has, with
    the fields that were given."""
    if name := given.get("study"):
        one = study(name)
        if given.get("recipe", one.recipe) != one.recipe:
            raise RecipeError(
                f"the study {name} has a recipe, {one.recipe}.", "Leave out --recipe."
            )
        known = {"data": one.data, "recipe": one.recipe, "seeds": one.seeds}
        return {**known, **given, "fields": one.base.replace(**own)}
    return given | {"fields": base_recipe(given).replace(**own)}


def recipe_fields(kind: type, told: bool = True) -> list[Flag]:
    """The fields of the recipe, of a command that has them as flags."""
    return flags(Recipe, told) if takes_recipe(kind) else []


def base_recipe(given: dict[str, Any]) -> Recipe:
    """What the flags of a recipe amend."""
    data, name = given.get("data", ""), given.get("recipe")
    if "config" not in given:
        return default_recipe(data, name)
    from alexnet.runs.configs import asked_for

    return asked_for(data, name, config=given["config"])


# -- help ------------------------------------------------------------------------------------------


def overview(group: str = "") -> Iterator[str]:
    """The commands, or those that begin with a word."""
    known = {words: kind for words, kind in COMMANDS.items() if words.startswith(group)}
    yield f"usage: alexnet {' '.join([group, 'COMMAND']).strip()} ..."
    yield from ["", ABOUT, ""] if not group else [""]
    for words, kind in known.items():
        said, room = first_sentence(kind.__doc__), width() - 18
        yield f"  {words:<14}  {said if len(said) <= room else re.split('[,:;]', said)[0]}"
    example = next(iter(known)) if group else "COMMAND"
    yield from ["", f"alexnet help {example} explains {'it' if group else 'one of them'}."]


def told(words: str, rest: Sequence[str], every: bool) -> str:
    """What `--help` and `--help-all` say of a command. Where it has a recipe, the defaults are
    those of the one that the other words ask for."""
    kind = COMMANDS[words]
    known, note, short = flags(kind), "", None
    if issubclass(kind, Train | Sweep | DataPrepare):
        fields, note = recipe_flags([one for one in rest if one not in HELP], known)
        known += fields
        short = None if every else kind.MOST_USED
    page = help_page(words, kind, known, width(), short=short, note=note)
    rest_of_it = f"\nalexnet {words} --help-all: all {len(known)} of them, in full"
    return page + (rest_of_it if short else "")


def recipe_flags(rest: Sequence[str], known: Sequence[Flag]) -> tuple[list[Flag], str]:
    """The fields of the recipe as flags, with the values of the recipe that the words ask for; and
    which one that is."""
    fields = flags(Recipe)
    try:
        given = read([*known, *fields], rest, "")
        recipe = base_recipe(given)
    except AlexNetError:  # help comes all the same
        given, recipe = {}, default_recipe("")
    data = given.get("data", "")
    name = given.get("recipe") or preset_for(data)
    if "config" in given:
        what = f"those of {given['config']}"
    else:
        what = f"those of the recipe {name}" + ("" if data else ", for a DATA that is a folder")
    told_by = [replace(one, default=getattr(recipe, one.field)) for one in fields]
    return told_by, f"Defaults in [ ]: {what}."


@typed()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 1 (it failed), 2 (wrong input), 130 (stopped)."""
    code, words = 0, ""
    if sys.stderr is None:  # closed: the next file that is opened would get what is said
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):  # a letter that a console lacks is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with on_console(), output(), voice():
            command = parse(sys.argv[1:] if arguments is None else arguments)
            if command:
                if not isinstance(command, Train | Resume | Eval):
                    require_one()
                with needs_extra("this command"):  # docs/export.md: without torch
                    command.run()
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
            with voice():
                complain(f"alexnet: {words}")
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
