"""What can go wrong, as one tree. Each error says what is wrong, what was expected, and what to do.

AlexNetError                    exit code 1: something failed while working
    DownloadError               a file could not be fetched or is not the file that was meant
    DiskError                   nothing could be written: full disk, missing permission
    TrainingError               the loss is no longer a number
    RankError                   one of several processes died, hangs, or failed
    CheckError                  a data set was checked, and has problems
    Interrupted                 Ctrl-C; the state is saved (exit code 130)
    InputError                  exit code 2: what was given cannot be used
        DataError               a folder, an archive, an image, an annotation, a Store
        RecipeError             a recipe name, a field, or a value out of range
        ModelError              an architecture that cannot be built, or cannot take this input
        WeightsError            a weights file that is damaged or belongs to another network
        RunError                a run directory that is not one, or holds another run
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from alexnet.words import spoken


class AlexNetError(Exception):
    """Base of every error this package raises on purpose: `message` is what happened, `hint` is
    what to do about it, for who types commands. Its text is both, and speaks of arguments where a
    function was called."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return spoken(f"{self.message}\n{self.hint}" if self.hint else self.message)


class DownloadError(AlexNetError):
    """A file could not be fetched, or what came is not the file that was meant."""


class DiskError(AlexNetError):
    """Nothing could be written: the disk is full, or permission is missing."""


class TrainingError(AlexNetError):
    """Training cannot go on: the loss is no longer a finite number."""


class RankError(AlexNetError):
    """One of several processes that train together died, hangs, or failed."""

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


class CheckError(AlexNetError):
    """A data set was checked, and has problems."""


class Interrupted(AlexNetError):
    """The user asked to stop (Ctrl-C or SIGTERM); everything up to the last step is kept."""

    exit_code = 130


class InputError(AlexNetError):
    """What was given cannot be used."""

    exit_code = 2


class DataError(InputError):
    """A folder, an archive, an image, an annotation or a Store cannot be used."""


class RecipeError(InputError):
    """A recipe name, a field name or a field's value is wrong."""


class ModelError(InputError):
    """An architecture cannot be built, or cannot take this input."""


class WeightsError(InputError):
    """A weights file is damaged or belongs to another network."""


class RunError(InputError):
    """A run directory is not one, is unfinished, or holds another run."""


# what torch, CUDA, oneDNN and the dynamic loader say where Python says MemoryError
NO_MEMORY = re.compile(
    r"(?i)(can't|cannot) allocate memory|out of memory|bad.alloc|can't start new thread|"
    r"failed to map segment|could not (create|execute) a primitive$"
)


def want_of_memory(error: BaseException) -> bool:
    """Whether an error of any package means that there is not enough memory."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


@contextmanager
def needs_extra(what: str, extra: str = "") -> Iterator[None]:
    """Imports of optional packages go in here: where one fails, what to install is the error.
    Without an extra they are those that an ordinary installation has."""
    try:
        yield
    except ImportError as error:
        # no package of others is missing
        if (error.name or "").split(".")[0] == "alexnet" or want_of_memory(error):
            raise
        raise InputError(
            f"{what} needs packages that are not installed ({error}).",
            "Install them: python -m pip install "
            + (f"'alexnet[{extra}]'" if extra else "alexnet"),
        ) from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The sentence that helps after a misspelt `word`: the closest `known` one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
