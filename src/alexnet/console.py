"""What people read while they wait: lines and progress, as records of the logger "alexnet".

A program that has set up logging gets the records, like those of any library. For the command line,
and where nobody has set up logging, a handler of our own writes them to stderr: everything people
read goes there, so that stdout holds results only. On a terminal lines fit its width. Standard
library only, so that the first word comes at once.
"""

import contextlib
import functools
import html
import importlib
import logging
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from alexnet.words import shown

log = logging.getLogger("alexnet")
WIDEST = 120  # columns of a line; longer ones are hard to read
REDRAWN = 0.1  # seconds between two looks of a live bar
TOLD = 10.0  # seconds between two lines where there is no live bar

_file: TextIO | None = None  # instead of stderr
_bars: list["Bar"] = []  # under way; the last one is shown
_always = 0  # blocks under way in which everything is written: the command line, a worker's log


# -- where it goes ---------------------------------------------------------------------------------


def _stream() -> TextIO:
    return _file or sys.stderr


def on_terminal() -> bool:
    """Whether people read along as it is written."""
    return _stream().isatty()


def width() -> int:
    """Columns of what is written."""
    with contextlib.suppress(ValueError):
        return min(int(os.environ["COLUMNS"]), WIDEST) if "COLUMNS" in os.environ else _columns()
    return 80


def _columns() -> int:
    for stream in (_stream(), sys.stdout):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, or no file
            return min(os.get_terminal_size(stream.fileno()).columns or 80, WIDEST)
    return 80


def _write(text: str) -> None:
    """Lines, above the live bar if there is one. On a terminal they are broken between words."""
    stream = _stream()
    if stream.isatty():
        text = "\n".join(_broken(line) for line in text.split("\n"))
    if _bars:
        _bars[-1].wipe()
    print(text, file=stream, flush=True)
    if _bars:
        _bars[-1].draw()


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


def _is_heard(level: int) -> bool:
    """Whether anybody wants messages of a level. The logger has none of its own unless a program
    gives it one; the console then wants INFO."""
    if _always:
        return True
    least = log.level or logging.INFO if _is_ours() else log.getEffectiveLevel()
    return level >= least and level > log.manager.disable and not log.disabled


def say(text: str, level: int = logging.INFO) -> None:
    """A line, or several, for people."""
    if not _is_heard(level):
        return
    text = "\n".join(map(shown, text.split("\n")))
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
    names that do not fit are cut."""
    widths = [max(len(row[place]) for row in [heading, *rows]) for place in range(len(heading))]
    room = width() - sum(widths[1:]) - 2 * len(widths)
    widths[0] = min(widths[0], max(room, 8))

    def line(row: Sequence[str]) -> str:
        first = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "…"
        cells = [f"{first:<{widths[0]}}"]
        cells += [f"{cell:>{size}}" for cell, size in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(["", *cells]).rstrip()

    return "\n".join(map(line, [heading, *rows]))


# -- progress --------------------------------------------------------------------------------------


def in_words(seconds: float) -> str:
    """A time, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bar:
    """Something under way, of `total` parts; `done` of them were before it began, `after` come
    after it and are part of what remains."""

    def __init__(self, what: str, total: int, done: int, after: int) -> None:
        self.what, self.total, self.done, self.after = what, total, done, after
        self.before, self.begun = done, time.monotonic()
        self.looked = 0.0  # when it was last shown

    def advance(self, count: int) -> None:
        """So many parts more."""
        self.done += count
        if time.monotonic() - self.looked >= REDRAWN:
            self.draw()

    @property
    def remains(self) -> str:
        """How long it and what comes after it will take; empty as long as nobody knows."""
        gone, done = time.monotonic() - self.begun, self.done - self.before
        if done <= 0 or gone < 0.5:
            return ""
        left = gone / done * max(self.total - self.done + self.after, 0)
        return f"about {in_words(left)} left"

    @property
    def share(self) -> float:
        """Of it is done, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 1.0

    def text(self) -> str:
        """As one line of a terminal."""
        counted = f"{self.done:,}/{self.total:,}"
        room = width() - 1 - len(f"{self.what}    {counted}  {self.remains}")
        drawn = "#" * round(self.share * min(room, 30))
        middle = f"[{drawn:<{min(room, 30)}}]  " if room >= 10 else ""
        return f"{self.what}  {middle}{counted}  {self.remains}".rstrip()[: width() - 1]

    def draw(self) -> None:
        """Shows it, where it is the innermost one."""
        self.looked = time.monotonic()
        if _bars and _bars[-1] is self:
            print(f"\r{self.text():<{width() - 1}}", end="", file=_stream(), flush=True)

    def wipe(self) -> None:
        """Takes it away."""
        print(f"\r{'':<{width() - 1}}\r", end="", file=_stream(), flush=True)


class Lines(Bar):
    """The same where nobody looks: a line every ten seconds."""

    def __init__(self, what: str, total: int, done: int, after: int, told: bool) -> None:
        super().__init__(what, total, done, after)
        self.told, self.looked = told, self.begun

    def advance(self, count: int) -> None:
        self.done += count
        if self.told and time.monotonic() - self.looked > TOLD:
            self.looked = time.monotonic()
            say(fitted(f"{self.what}: {self.done:,} of {self.total:,}", self.remains))


class InNotebook(Bar):
    """The same in a notebook: one line of HTML that changes and goes away."""

    def __init__(self, what: str, total: int, done: int, after: int, show: Any) -> None:
        super().__init__(what, total, done, after)
        self.handle = show(self._html(), display_id=True)

    def draw(self) -> None:
        self.looked = time.monotonic()
        self.handle.update(self._html())

    def wipe(self) -> None:
        self.handle.update(_Html(""))

    def _html(self) -> "_Html":
        words = html.escape(f"{self.what}  {self.done:,}/{self.total:,}  {self.remains}")
        return _Html(
            f'<progress max="1" value="{self.share:.4f}"></progress> '
            f'<span style="font-family: monospace">{words}</span>'
        )


class _Html:
    """What a notebook shows as HTML."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return ""


def _notebook() -> Any:
    """IPython's `display` where this runs in a notebook's kernel, else None."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        return None
    return importlib.import_module("IPython.display").display


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
    wanted = _is_heard(logging.INFO) and _is_ours()
    live = wanted and on_terminal()
    show = _notebook() if wanted and not live and _file is None else None
    if not live and show is None:
        yield Lines(what, total, done, after, lines).advance
        return
    bar = InNotebook(what, total, done, after, show) if show else Bar(what, total, done, after)
    if live:
        _bars.append(bar)
    try:
        yield bar.advance
    finally:
        bar.wipe()
        if live:
            _bars.remove(bar)


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
