"""A page about whatever was trained: a run, a sweep, several runs. Imports no torch unless pictures
are drawn anew."""

from collections.abc import Sequence
from pathlib import Path

from alexnet.atomic import output_file
from alexnet.errors import InputError
from alexnet.runs.directory import RunDirectory
from alexnet.sweeping.directory import SweepDirectory
from alexnet.values import checked_arguments


@checked_arguments
def report(
    runs: Sequence[str | Path] | str | Path, *, out: str | Path = "", pictures: bool = False
) -> Path:
    """Writes one HTML page about a run or a sweep, or one that compares several runs over the same
    images; returns its path.

    Args:
        runs: a directory, or several.
        out: the page; by default report.html in the directory, or comparison.html here.
        pictures: draw the pictures anew and look at the data of a run again, which must still be
            there.

    Raises:
        RunError: not a run, or not evaluated. InputError: a sweep among several.
    """
    if out:
        output_file(out, ".html", ".htm")
    every = [runs] if isinstance(runs, str | Path) else list(runs)
    if not every:
        raise InputError("there is no run to report on.", "Give a run directory, or several.")
    sweeps = [run for run in every if SweepDirectory(run).begun]
    for run in every:
        if run not in sweeps:
            RunDirectory(run).metrics()  # before anything is imported that takes long
    if sweeps and len(every) > 1:
        raise InputError(
            f"{sweeps[0]} is a sweep, and runs can be compared only with runs.",
            f"Its trials are runs: {sweeps[0]}/trials/NAME.",
        )
    if pictures:
        from alexnet.training.train import prepare_report

        for run in every:
            if run not in sweeps:
                prepare_report(run)
    if len(every) > 1:
        from alexnet.reporting.comparison import compare

        return compare(every, out or "comparison.html")
    if sweeps:
        from alexnet.sweeping.sweep_page import write_sweep_page

        return write_sweep_page(every[0], out or None)
    from alexnet.reporting.report import write_report

    return write_report(every[0], out or None)
