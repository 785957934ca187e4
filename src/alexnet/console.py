"""What people read while they wait: lines and progress, as records of the logger "alexnet".

A program that has set up logging gets the records, like those of any library. For the command line,
and where nobody has set up logging, a handler of our own writes them to stderr. Imports no torch.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from alexnet.words import shown

# Everything people read goes to stderr, so that stdout holds results only; in a notebook too, as
# plain lines.
console = Console(stderr=True, highlight=False, soft_wrap=True, force_jupyter=False)
plain = Console(width=100, color_system=None, force_jupyter=False)  # tables for logs of others
log = logging.getLogger("alexnet")


class _OnConsole(logging.Handler):
    """Writes to the console what nobody else was asked to take care of."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_ours():
            what = getattr(record, "renderable", None) or self.format(record)
            try:
                console.print(what, markup=False)
            except BrokenPipeError:  # its reader has gone, and wants the program to end
                raise
            except OSError:  # a full disk behind stderr: the work is worth more than the line
                pass


_handler = _OnConsole()
log.addHandler(_handler)
_always = 0  # blocks under way in which everything is written: the command line, a worker's log


def _is_ours() -> bool:
    """Whether the console is where messages go."""
    return bool(_always) or not (logging.root.handlers or set(log.handlers) - {_handler})


def _is_heard(level: int) -> bool:
    """Whether anybody wants messages of a level. The logger has none of its own unless a program
    gives it one; the console then wants INFO."""
    if _always:
        return True
    least = log.level or logging.INFO if _is_ours() else log.getEffectiveLevel()
    return level >= least and level > log.manager.disable and not log.disabled


def say(what: RenderableType, level: int = logging.INFO) -> None:
    """One line (no markup is read into it) or one table for people."""
    if not _is_heard(level):
        return
    if isinstance(what, str):
        text, extra = "\n".join(map(shown, what.split("\n"))), None
    else:
        with plain.capture() as captured:
            plain.print(what)
        text, extra = captured.get().rstrip("\n"), {"renderable": what}
    path, line, function, _ = log.findCaller(stacklevel=2)
    record = log.makeRecord(log.name, level, path, line, text, (), None, function, extra)
    # not log.log: the level was looked at above, and the logger's own is not all there is to it
    (_handler if _always else log).handle(record)


# about a problem that deserves attention and ends nothing
warn = functools.partial(say, level=logging.WARNING)


@contextlib.contextmanager
def on_console() -> Iterator[None]:
    """While the block runs everything that is said is written to stderr, however logging is set up:
    for the command line."""
    global _always
    _always += 1
    try:
        yield
    finally:
        _always -= 1


@contextlib.contextmanager
def redirected(file: TextIO) -> Iterator[None]:
    """While the block runs, what is said goes to `file`."""
    before = console._file  # console.file would name today's stderr instead of none
    console.file = file
    try:
        with on_console():
            yield
    finally:
        console._file = before


@contextlib.contextmanager
def progress(what: str, total: int, lines: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`. A live bar on a terminal; elsewhere, with `lines`, a line every 10
    seconds for what takes that long."""
    # a notebook sets FORCE_COLOR, which rich takes for a terminal
    if _is_heard(logging.INFO) and _is_ours() and console.is_terminal and console.file.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if lines and time.monotonic() - last > 10:
            last = time.monotonic()
            say(f"{what}: {done:,} of {total:,}")

    yield advance
