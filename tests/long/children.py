"""Commands in children of this process, which has everything imported: each in a moment, and
nothing that one of them does, or has done to it, reaches the next."""

import contextlib
import csv
import os
import shutil
import signal
import sys
import tempfile
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 900  # after which a child hangs, however busy the machine is
MISTAKE = 99  # exit code of a child with an error that nobody expects

# fields of what was written that tell the time, or where it was
TIMES = {"seconds", "train_images_per_second", "waiting", "peak_memory"}


@dataclass(frozen=True)
class Outcome:
    """How a child ended, and what it said."""

    code: int  # negative: the signal that ended it
    out: bytes
    err: str

    @property
    def documented(self) -> bool:
        """Whether it came to an end, or to an error with words."""
        told = self.code == 0 or "alexnet: " in self.err
        return self.code in (0, 1, 2, 130) and told and "Traceback" not in self.err


def in_child(do: Callable[[], Any], stdout: str = "", stderr: str = "") -> Outcome:
    """Does something in a child; its exit code is what it returns.

    Args:
        stdout, stderr: where they go instead of here, such as /dev/full.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = [stdout or f"{folder}/out", stderr or f"{folder}/err"]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        child = os.fork()
        if not child:
            _be_child(do, said)
        _, status = os.waitpid(child, 0)
        out, err = (Path(one).read_bytes() if one.startswith(folder) else b"" for one in said)
    return Outcome(os.waitstatus_to_exitcode(status), out, err.decode("utf-8", "replace"))


def _be_child(do: Callable[[], Any], said: Sequence[str]) -> None:
    code = MISTAKE
    try:
        signal.alarm(SECONDS)
        for descriptor, path in enumerate(said, 1):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(opened, descriptor)
            os.close(opened)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)
        code = do() or 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def command(*words: object) -> Callable[[], int]:
    """An `alexnet` command."""
    from alexnet import cli

    return lambda: cli.main([str(one) for one in words])


def warm() -> None:
    """Imports whatever commands import, and starts no thread."""
    import importlib

    import torch

    torch.set_num_threads(1)
    for name in (
        "matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg",
        "onnx", "onnxruntime", "scipy.optimize", "sklearn.metrics", "tensorboard",
        "torch.utils.tensorboard.summary", "alexnet.checking.check", "alexnet.cli",
        "alexnet.classification.onnx_classifier", "alexnet.explaining.panels",
        "alexnet.explaining.showcase", "alexnet.exporting.export", "alexnet.exporting.onnx_graph",
        "alexnet.reporting.comparison", "alexnet.reporting.report", "alexnet.sweeping.sweep",
        "alexnet.training.train",
    ):  # fmt: skip
        importlib.import_module(name)


@contextlib.contextmanager
def world() -> Iterator[Path]:
    """A folder with a cache in it, where all commands run; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="world-"))
    before, cache = Path.cwd(), os.environ.get("ALEXNET_CACHE")
    os.environ["ALEXNET_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        os.environ.pop("ALEXNET_CACHE")
        if cache is not None:
            os.environ["ALEXNET_CACHE"] = cache
        shutil.rmtree(folder, ignore_errors=True)


def restore(folder: Path, kept: Path) -> None:
    """Makes a folder again what it was when it was copied to `kept`."""
    for one in folder.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    shutil.copytree(kept, folder, dirs_exist_ok=True)  # times of files too, which sign data


def content(path: Path) -> object:
    """What a file says, without the time it tells; None of files that tell nothing else."""
    from alexnet.atomic import read_object, unsealed

    if path.name.startswith("events.out") or path.name == "environment.json":
        return None
    if path.suffix == ".json":
        return _timeless(read_object(path))
    if path.suffix == ".jsonl":
        import json

        return [_timeless(json.loads(one)) for one in unsealed(path.read_bytes()).splitlines()]
    if path.name == "last.safetensors":
        from alexnet.network.checkpoint import load_tensors

        tensors, about = load_tensors(path)
        return {name: one.numpy().tobytes() for name, one in tensors.items()}, _timeless(about)
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return [_timeless(row) for row in csv.DictReader(file)]
    if path.suffix == ".npz":  # which holds the time
        with contextlib.suppress(zipfile.BadZipFile, zlib.error), zipfile.ZipFile(path) as file:
            return {name: file.read(name) for name in file.namelist()}
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES | {"crc32"}}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def contents(*folders: Path) -> dict[str, object]:
    """What every file below some folders says."""
    return {
        str(path): content(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
