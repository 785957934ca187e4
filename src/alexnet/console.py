"""What people read while they wait: lines and progress, as records of the logger "alexnet".

A program that has set up logging gets the records, like those of any library. For the command line,
and where nobody has set up logging, a handler of our own writes them to stderr: everything people
read goes there, so that stdout holds results only. On a terminal lines fit its width. Bars and
tables are rich's, which is imported with the first of them, so that the first word comes at once.
"""

import contextlib
import functools
import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

from alexnet.words import shown, spoken, typed

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("alexnet")
WIDEST = 120  # columns of a line; longer ones are hard to read
REDRAWN = 0.1  # seconds between two looks of a live bar
TOLD = 10.0  # seconds between two lines where there is no live bar

_file: TextIO | None = None  # instead of stderr
_live: "Progress | None" = None  # the bars under way
_speaker = ""  # who speaks, where that is not clear
_always = 0  # blocks under way in which everything is written: the command line, a worker's log


# -- where it goes ---------------------------------------------------------------------------------


def _stream() -> TextIO:
    return _file or sys.stderr


def on_terminal() -> bool:
    """Whether people read along as it is written."""
    return _stream().isatty()


def width() -> int:
    """Columns of what is written."""
    size = os.terminal_size((80, 24))
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, or no file
        size = os.get_terminal_size(_stream().fileno())
    return min(shutil.get_terminal_size(size).columns, WIDEST)


def _write(text: str) -> None:
    """Lines, above the live bar if there is one. On a terminal they are broken between words."""
    if on_terminal():
        text = "\n".join(_broken(line) for line in text.split("\n"))
        if _live:
            _live.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
            return
    print(_speaker + text, file=_stream(), flush=True)


def _broken(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return line if len(line) <= width() else textwrap.fill(
        line, width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True,
    )  # fmt: skip


def fitted(*parts: str) -> str:
    """One line of several parts, the most important first: on a terminal those that fit."""
    line = parts[0]
    for part in parts[1:]:
        if part and (not (_is_ours() and on_terminal()) or len(line) + 2 + len(part) <= width()):
            line += f"  {part}"
    return line


def complain(text: str) -> None:
    """An error that ends a command."""
    _write("\n".join(map(shown, text.split("\n"))))


class _OnConsole(logging.Handler):
    """Writes to the console what nobody else was asked to take care of."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_ours():
            try:
                _write(self.format(record))
            except BrokenPipeError:  # its reader has gone, and wants the program to end
                raise
            except OSError:  # a full disk behind stderr: the work is worth more than the line
                pass


_handler = _OnConsole()
log.addHandler(_handler)


def _is_ours() -> bool:
    """Whether the console is where messages go."""
    return bool(_always) or not (logging.root.handlers or set(log.handlers) - {_handler})


# set while an estimator works, of which many may follow each other
_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """While the block runs only warnings are said."""
    before = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(before)


@contextlib.contextmanager
def speaking_as(name: str) -> Iterator[None]:
    """While the block runs only warnings and errors are said, and bear a name."""
    global _speaker
    before, _speaker = _speaker, f"{name}: "
    try:
        with hushed():
            yield
    finally:
        _speaker = before


def _is_heard(level: int) -> bool:
    """Whether anybody wants messages of a level. The logger has none of its own unless a program
    gives it one; the console then wants INFO."""
    if _hushed.get() and level < logging.WARNING:
        return False
    if _always:
        return True
    least = log.level or logging.INFO if _is_ours() else log.getEffectiveLevel()
    return level >= least and level > log.manager.disable and not log.disabled


def heard() -> bool:
    """Whether anybody listens: what is measured for words alone may be left out where nobody
    does."""
    return _is_heard(logging.INFO)


def say(text: str, level: int = logging.INFO) -> None:
    """A line, or several, for people."""
    if not _is_heard(level):
        return
    text = "\n".join(map(shown, spoken(text).split("\n")))
    path, line, function, _ = log.findCaller(stacklevel=2)
    record = log.makeRecord(log.name, level, path, line, text, (), None, function)
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
        with typed():
            yield
    finally:
        _always -= 1


@contextlib.contextmanager
def redirected(file: TextIO) -> Iterator[TextIO]:
    """While the block runs, what is said goes to `file`, which is yielded."""
    global _file
    before, _file = _file, file
    try:
        with on_console():
            yield file
    finally:
        _file = before


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines of equal columns: the first one to the left, the others, numbers, to the right;
    names that do not fit are broken."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, 0, 0, 2))
    for place, name in enumerate(heading):
        made.add_column(
            Text(name), justify="right" if place else "left", no_wrap=bool(place), overflow="fold"
        )
    for row in rows:
        made.add_row(*map(Text, row))
    console = Console(width=width(), color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(made)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


# -- progress --------------------------------------------------------------------------------------


def in_words(seconds: float) -> str:
    """A time, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.0f} days"


class Pace:
    """How fast something of `total` parts gets on; `done` of them were before it began, `after`
    come after it and are part of what remains."""

    def __init__(self, total: int, done: int = 0, after: int = 0) -> None:
        self.total, self.done, self.after = total, done, after
        self.before, self.begun = done, time.monotonic()
        self.looked = self.begun  # when it was last shown

    def is_due(self, seconds: float) -> bool:
        """Whether it was last shown so long ago; then it is now."""
        if time.monotonic() - self.looked < seconds:
            return False
        self.looked = time.monotonic()
        return True

    @property
    def remains(self) -> str:
        """How long it and what comes after it will take; empty as long as nobody knows."""
        gone, done = time.monotonic() - self.begun, self.done - self.before
        if done <= 0 or gone < 0.5:
            return ""
        left = gone / done * max(self.total - self.done + self.after, 0)
        return f"about {in_words(left)} left"


def _in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook that can show rich's bars."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel") and _file is None and find_spec("ipywidgets") is not None


@contextlib.contextmanager
def _bars() -> "Iterator[Progress | None]":
    """Where bars are drawn, one below the other; None where nobody looks."""
    global _live
    if not (_is_heard(logging.INFO) and _is_ours() and (on_terminal() or _in_notebook())):
        yield None
        return
    if _live:
        yield _live
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(
        file=_stream(), width=width(), force_terminal=True, force_jupyter=not on_terminal()
    )
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remains]}"),
        console=console,
        transient=True,
        auto_refresh=False,  # its thread would be there when this process forks
        redirect_stdout=False,  # which holds results
        redirect_stderr=False,
    )
    try:
        with bars as _live:
            yield bars
    finally:
        _live = None


@contextlib.contextmanager
def progress(
    what: str, total: int, lines: bool = True, done: int = 0, after: int = 0
) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`. A live bar on a terminal and in a notebook; elsewhere, with `lines`, a
    line every ten seconds for what takes that long.

    Args:
        what: is under way.
        total: how many parts it has.
        lines: whether lines are wanted where there is no bar.
        done: parts that were done before.
        after: parts that come when this is done, as part of what remains.
    """
    pace = Pace(total, done, after)
    with _bars() as bars:
        task = bars.add_task(what, total=total, completed=done, remains="") if bars else None

        def advance(count: int) -> None:
            pace.done += count
            if bars and task is not None and pace.is_due(REDRAWN):
                bars.update(task, completed=pace.done, remains=pace.remains, refresh=True)
            elif lines and not bars and pace.is_due(TOLD):
                say(fitted(f"{what}: {pace.done:,} of {total:,}", pace.remains))

        try:
            yield advance
        finally:
            if bars and task is not None:
                bars.remove_task(task)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """While the block runs, a terminal says what is waited for; afterwards that is gone."""
    if not (_is_ours() and on_terminal()):
        yield
        return
    print(f"{what} ...", end="", file=_stream(), flush=True)
    try:
        yield
    finally:
        print(f"\r{'':<{len(what) + 4}}\r", end="", file=_stream(), flush=True)
