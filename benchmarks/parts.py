"""The parts of `run.py`: each a job, and who does it.

A contestant is a function of a folder to work in, which `prepare` has filled; it returns figures by
their names, which say the unit. The first contestant is what the others are compared with, by the
first figure.

What needs no picture of anybody is made up here: times do not depend on what pixels show.
"""

import contextlib
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transfer
from numpy.typing import NDArray
from PIL import Image

import alexnet
from alexnet.data.datasets import WORKERS, open_data
from alexnet.data.images import load_image
from alexnet.data.store import Batches
from alexnet.network.description import ARCHITECTURES, architecture
from alexnet.network.frozen import FrozenPart
from alexnet.network.layers import layers
from alexnet.network.model import AlexNet
from alexnet.runtime import choose_device, choose_precision, keep_memory
from alexnet.sweeping import limits
from alexnet.sweeping.bench import on_made_up
from alexnet.training.run import Run
from alexnet.training.timing import median_seconds, over_and_over, training_steps

Figures = dict[str, float]
Contestant = Callable[[Path], Figures]
EARLIER = "ALEXNET_EARLIER"  # PYTHONPATH of a release beside which this tree is measured
HERE = Path(alexnet.__file__).parent.parent
REAL = HERE.parent / "real-data"
COMMAND = "import sys; from alexnet.cli import main; sys.exit(main())"
DEVICE = choose_device("auto")
DTYPE, _ = choose_precision("auto", DEVICE)


@dataclass(frozen=True)
class Part:
    """A job."""

    what: str  # for those who read the table
    contestants: Callable[[], dict[str, Contestant]]
    prepare: Callable[[Path], object] = lambda work: None


# -- this machine ----------------------------------------------------------------------------------


def machine() -> dict[str, Contestant]:
    """A contestant for each number of threads."""

    def rates(count: int, work: Path) -> Figures:
        torch.set_num_threads(count)
        found = limits.machine_rates(DEVICE, dict.fromkeys((torch.float32, DTYPE)))
        return {what: one[count if count in one else 0] for what, one in found.items()}

    every = limits.counts(torch.get_num_threads())
    return {f"{n} thread{'s' * (n > 1)}": partial(rates, n) for n in reversed(every)}


# -- packing ---------------------------------------------------------------------------------------

PHOTOGRAPHS, SMALL_PICTURES = 1500, 10_000


def write_pictures(folder: Path, count: int, jpegs: list[bytes]) -> None:
    """Ten class folders of so many pictures, the given ones over and over."""
    for number in range(count):
        path = folder / f"class {number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpegs[number % len(jpegs)])


def write_photographs(work: Path) -> None:
    """Pictures of 500x375 px."""
    write_pictures(work / "photographs", PHOTOGRAPHS, [limits.made_up_jpeg(n) for n in range(50)])


def write_small_pictures(work: Path) -> None:
    """Pictures of 64 px."""
    jpegs = [limits.made_up_jpeg(seed, (64, 64)) for seed in range(200)]
    write_pictures(work / "small", SMALL_PICTURES, jpegs)


@contextlib.contextmanager
def anonymous_peak() -> Iterator[Callable[[], float]]:
    """Yields what tells, after the block, the most anonymous memory that was in use in it above
    what was before, in MiB (Linux)."""

    def anonymous() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

    bare, done = anonymous(), threading.Event()
    seen = [bare]

    def watch() -> None:
        while not done.wait(0.01):
            seen.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield lambda: max(seen) - bare
    done.set()
    watcher.join()


def packing(name: str, side: int, work: Path) -> Figures:
    """Into a Store, from an empty cache."""
    os.environ["ALEXNET_CACHE"] = str(work / f"cache-{time.monotonic_ns()}")
    torch.zeros(1)
    with anonymous_peak() as peak:
        begun = time.perf_counter()
        store = open_data(work / name, image_size=side)
        seconds = time.perf_counter() - begun
    return {"pictures/s": len(store) / seconds, "MiB": peak()}


def decoding(decode: Callable[[Path], object], name: str, work: Path) -> Figures:
    """Only read and decoded, in as many threads."""
    files = sorted((work / name).rglob("*.jpg"))
    with ThreadPoolExecutor(WORKERS) as pool, anonymous_peak() as peak:
        begun = time.perf_counter()
        for _ in pool.map(decode, files):
            pass
        seconds = time.perf_counter() - begun
    return {"pictures/s": len(files) / seconds, "MiB": peak()}


def plain_square(path: Path, side: int) -> Any:
    """As everybody writes it: the shorter side scaled, the centre cut out."""
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    image = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def packers(name: str, side: int) -> dict[str, Contestant]:
    """Packing, and decoding without it."""
    return {
        "alexnet data prepare": partial(packing, name, side),
        "the same decoding alone": partial(
            decoding, lambda path: load_image(path.read_bytes(), side), name
        ),
        "Pillow: open, convert, resize, crop": partial(
            decoding, lambda path: plain_square(path, side), name
        ),
    }


# -- training steps --------------------------------------------------------------------------------


def of_ours(run: Run) -> Iterator[object]:
    """Training steps of all of a network, on its images."""
    keep_memory()
    batches = over_and_over(run.inputs.training_batches("none"))
    return training_steps(run.recipe, run.trained_part("none"), batches, run.inputs.dtype)


def of_torchvision(images: int, side: int, tuned: bool) -> Iterator[object]:
    """The same with torchvision's network, as its documentation has it: fp32 and NCHW; or in
    bfloat16 and channels last."""
    from torchvision.models import alexnet as theirs

    kind = torch.channels_last if tuned else torch.contiguous_format
    model = theirs().to(DEVICE, memory_format=kind)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9, weight_decay=5e-4)
    x = torch.randn(images, 3, side, side, device=DEVICE).contiguous(memory_format=kind)
    y = torch.randint(1000, (images,), device=DEVICE)
    while True:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=tuned):
            loss = F.cross_entropy(model(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def steps() -> dict[str, Contestant]:
    """A training step of the network that torchvision has too."""
    count, side = 64, 224

    def ours(work: Path) -> Figures:
        size = {"image_size": side, "crop": "auto", "crop_area": 1.0, "batch_size": count}
        recipe = alexnet.recipe("scratch", model="2014", **size)
        return rate(of_ours(on_made_up(recipe, 1000, work)))

    def theirs(tuned: bool, work: Path) -> Figures:
        return rate(of_torchvision(count, side, tuned))

    def rate(timed: Iterator[object]) -> Figures:
        seconds = median_seconds(timed, 5)
        return {"ms a step": 1000 * seconds, "images/s": count / seconds}

    return {
        "ours": ours,
        "torchvision, fp32": partial(theirs, False),
        "torchvision, bf16, channels last": partial(theirs, True),
    }


def arithmetic(run: Run) -> float:
    """GFLOP of a training step: each multiplication is done once forward and twice backward."""
    found = layers(
        run.inputs.resolution.architecture, len(run.inputs.store.classes), run.recipe.crop
    )
    return 6e-9 * run.recipe.batch_size * sum(one.multiplications for one in found)


def growth() -> dict[str, Contestant]:
    """A training step of larger images, of more classes, of wider networks."""

    def grown(work: Path, classes: int = 10, **fields: Any) -> Figures:
        run = on_made_up(alexnet.recipe("scratch", **fields), classes, work)
        seconds, work_done = median_seconds(of_ours(run), 5), arithmetic(run)
        return {"ms a step": 1000 * seconds, "GFLOP": work_done, "GFLOP/s": work_done / seconds}

    def larger(side: int) -> Contestant:
        return partial(grown, image_size=side * 9 // 8, crop=side)

    return {
        "64 px, 10 classes": grown,
        "96 px": larger(96),
        "128 px": larger(128),
        "100 classes": partial(grown, classes=100),
        "1,000 classes": partial(grown, classes=1000),
        "1.5 times as wide": partial(grown, width=1.5),
        "twice as wide": partial(grown, width=2.0),
    }


def data_path() -> dict[str, Contestant]:
    """Batches of an epoch, without and with training on them."""

    def ours(name: str, work: Path) -> Figures:
        run = on_made_up(alexnet.recipe(name), 10, work, steps=8)
        batches = over_and_over(run.inputs.training_batches("none"))
        alone = median_seconds(batches, 24)
        step = median_seconds(of_ours(run), 8)
        return {
            "% of a step": 100 * alone / step,
            "ms a batch": 1000 * alone,
            "ms a step": 1000 * step,
            "images/s": run.recipe.batch_size / alone,
        }

    def theirs(work: Path) -> Figures:
        from torchvision import datasets, transforms

        how = [
            transforms.RandomCrop(32, 1, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
        found = datasets.ImageFolder(work / "small", transforms.Compose(how))
        loader = torch.utils.data.DataLoader(found, 480, shuffle=True, num_workers=2)
        begun = time.perf_counter()
        count = sum(len(x) for x, _ in itertools.islice(loader, 10))
        return {"images/s": count / (time.perf_counter() - begun)}

    names = ("cifar10-fast", "digits", "cifar10", "scratch")
    return {name: partial(ours, name) for name in names} | {
        "torchvision's ImageFolder and DataLoader, 32 px of 64 px files": theirs
    }


# -- frozen layers ---------------------------------------------------------------------------------

EXTRACTED = 256  # images


def extraction() -> dict[str, Contestant]:
    """Frozen layers against the arithmetic of the machine; weights are random."""

    def ours(name: str, side: int, freeze: str, work: Path) -> Figures:
        body, _ = AlexNet(ARCHITECTURES[name], 1000).split(freeze)
        found = layers(ARCHITECTURES[name], 1000, side)[: -1 if freeze == "all-but-last" else None]
        known = [one for one in found if freeze == "all-but-last" or one.kind == "conv"]
        frozen = FrozenPart(body, DEVICE, DTYPE)
        return shares(frozen, side, 2 * sum(one.multiplications for one in known))

    def theirs(tuned: bool, work: Path) -> Figures:
        from torchvision.models import alexnet as network

        kind = torch.channels_last if tuned else torch.contiguous_format
        dtype = torch.bfloat16 if tuned else torch.float32
        model = network().features.eval().to(DEVICE, dtype, memory_format=kind)
        found = layers(ARCHITECTURES["2014"], 1000, 224)
        flop = 2 * sum(one.multiplications for one in found if one.kind == "conv")

        @torch.inference_mode()
        def forward(x: torch.Tensor) -> Any:
            return model(x.to(dtype, memory_format=kind))

        return shares(forward, 224, flop)

    def shares(function: Callable[[torch.Tensor], object], side: int, flop: float) -> Figures:
        x = torch.randn(EXTRACTED, 3, side, side, device=DEVICE)
        x = x.contiguous(memory_format=torch.channels_last)
        rates, speeds = [], []
        for _ in range(3):  # in turn, so that both see the same moments of a noisy machine
            rates.append(limits.matrix_rate(DEVICE, DTYPE, (1024, 2048, 4096)))
            speeds.append(EXTRACTED / limits.best_seconds(partial(function, x), 1))
        return {
            "images/s": statistics.median(speeds),
            "% of the matrix rate": statistics.median(
                100 * speed * flop / most for speed, most in zip(speeds, rates, strict=True)
            ),
        }

    return {
        "2014, convolutions": partial(ours, "2014", 224, "conv"),
        "2014, all but the last layer": partial(ours, "2014", 224, "all-but-last"),
        "2012, convolutions": partial(ours, "2012", 227, "conv"),
        "torchvision's, convolutions, fp32": partial(theirs, False),
        "torchvision's, convolutions, bf16, channels last": partial(theirs, True),
    }


# -- a new head ------------------------------------------------------------------------------------


def head_job(work: Path) -> None:
    """Pictures and weights of `transfer.py`."""
    transfer.prepare(
        work, Namespace(data=REAL / "tiny-imagenet-100", weights=WEIGHTS, per_class=50)
    )


WEIGHTS = REAL / "bvlc_alexnet_q7_int8.npz"
JOB = Namespace(epochs=10, threads=torch.get_num_threads())
BATCHES = 4  # of the loops; the rest is scaled


def transferring() -> dict[str, Contestant]:
    """`transfer.py`, each program from its start to its end; the loops scaled from some batches."""

    def ours(work: Path) -> Figures:
        number = time.monotonic_ns()
        first, _, _ = transfer.ours(work, JOB, number, seed=0)
        return {"s": first, "s again": transfer.ours(work, JOB, number, seed=0)[0]}

    def looped(name: str, work: Path) -> Figures:
        return {"s": transfer.child(name, work, JOB, JOB.threads, batches=BATCHES)[1]}

    def cached(work: Path) -> Figures:
        kept = f"kept-{time.monotonic_ns()}"
        first, again = (
            transfer.child(transfer.CACHED, work, JOB, JOB.threads, kept=kept)[0] for _ in range(2)
        )
        return {"s": first, "s again": again}

    return {
        transfer.OURS: ours,
        transfer.PLAIN: partial(looped, transfer.PLAIN),
        transfer.TUNED: partial(looped, transfer.TUNED),
        transfer.CACHED: cached,
    }


FEATURES, SETTINGS = (4000, 9216), 12


def heads(classes: int) -> dict[str, Contestant]:
    """An epoch of one head, of many side by side, and of scikit-learn's."""

    def features() -> tuple[NDArray[Any], NDArray[Any]]:
        generator = np.random.default_rng(0)
        x = generator.standard_normal(FEATURES, np.float32).astype(np.float16)
        return x, generator.integers(classes, size=len(x))

    def ours(models: int, work: Path) -> Figures:
        keep_memory()
        recipe = alexnet.recipe("tiny-image10-frozen")
        network = AlexNet(architecture("2014", fc_layers=1, fc_norm="batch"), classes)
        _, head = network.split("conv")
        batches = Batches.of_arrays(*features(), batch_size=recipe.batch_size, shuffle=True)
        timed = training_steps(recipe, head, over_and_over(batches), DTYPE, models)
        return {"s an epoch": len(batches) * median_seconds(timed, len(batches))}

    def scikit(work: Path) -> Figures:
        from sklearn.linear_model import SGDClassifier

        x, y = features()
        model = SGDClassifier("log_loss", learning_rate="constant", eta0=0.001)
        begun = time.perf_counter()
        model.partial_fit(x.astype(np.float32), y, classes=np.arange(classes))
        return {"s an epoch": time.perf_counter() - begun}

    return {
        "one head": partial(ours, 1),
        f"{SETTINGS} heads side by side": partial(ours, SETTINGS),
        "scikit-learn's SGDClassifier, one head": scikit,
    }


# -- a busy machine --------------------------------------------------------------------------------

BUSY_SECONDS = 8.0
SPIN = "while True: pass"


def busy() -> dict[str, Contestant]:
    """Training beside others, for some seconds."""

    def trained(work: Path, threads: int = 0, beside: str = "") -> Figures:
        torch.set_num_threads(threads or torch.get_num_threads())
        run = on_made_up(alexnet.recipe("cifar10-fast"), 10, work / str(os.getpid()), steps=2)
        timed = of_ours(run)
        next(timed)
        other = subprocess.Popen([sys.executable, "-c", beside]) if beside else None
        try:
            count, begun = 0, time.perf_counter()
            while (gone := time.perf_counter() - begun) < BUSY_SECONDS:
                next(timed)
                count += 1
        finally:
            if other:
                other.kill()
                other.wait()
        return {"images/s": run.recipe.batch_size * count / gone}

    def two(work: Path) -> Figures:
        with ThreadPoolExecutor(2) as pool:
            words = [sys.executable, str(Path(__file__).with_name("run.py")), "--contestant"]
            found = pool.map(
                lambda place: subprocess.run(
                    [*words, "busy", "alone", str(work / str(place))],
                    check=True, stdout=subprocess.PIPE, text=True,
                ).stdout, range(2),
            )  # fmt: skip
            return {"images/s": sum(json.loads(one.splitlines()[-1])["images/s"] for one in found)}

    return {
        "alone": trained,
        "beside one busy process": partial(trained, beside=SPIN),
        "one thread, alone": partial(trained, threads=1),
        "one thread, beside one busy process": partial(trained, threads=1, beside=SPIN),
        "two trainings beside each other, in sum": two,
    }


# -- from the start of a program -------------------------------------------------------------------

FIRST_STEP = """
import os, sys, time
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
begun = time.perf_counter()
def first(*given):  # a hook, since a step of our own would load torch's compiler, for a second
    print(time.perf_counter() - begun, flush=True)
    os._exit(0)
register_optimizer_step_post_hook(first)
from alexnet.cli import main
main(sys.argv[1:])
"""


def call(work: Path, source: str, code: str, *words: object) -> tuple[float, str]:
    """Seconds of a fresh process, from its start to its end, and what it printed."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=work, text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": source, "ALEXNET_CACHE": str(work / "cache")},
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr}")
    return seconds, done.stdout


def start() -> dict[str, Contestant]:
    """Commands that are short."""

    def commands(source: str, work: Path) -> Figures:
        own = work / f"run-{time.monotonic_ns()}"
        own.mkdir()
        run = own / "run"
        picture = next((work / "small").rglob("*.jpg"))
        this = partial(call, own, source)  # the first one packs, and compiles
        this(COMMAND, "train", "digits", "--out", run, "--no-report", "--epochs", 1)
        torch_alone, _ = this("import torch")
        digits, _ = this(COMMAND, "train", "digits", "--out", own / "whole")
        _, first = this(FIRST_STEP, "train", "digits", "--out", own / "first")
        predict, _ = this(COMMAND, "predict", run, picture)
        many, _ = this(COMMAND, "predict", run, work / "small" / "class 0")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return {
            "--help, s": this(COMMAND, "--help")[0],
            "import torch, s": torch_alone,
            "first step after that, s": float(first.splitlines()[-1]),
            "predict, more than that, s": predict - torch_alone,
            "predict 1,000, s": many,
            "train digits, s": digits,
            "peak, MiB": peak,
            "a run on disk, MB": size(own / "whole"),
            "the package, MB": size(Path(source.split(os.pathsep)[0], "alexnet")),
        }

    def size(folder: Path) -> float:
        files = (one for one in folder.rglob("*") if one.suffix not in (".pyc",) and one.is_file())
        return sum(one.stat().st_size for one in files) / 1e6

    return releases(commands)


def releases(job: Callable[[str, Path], Figures]) -> dict[str, Contestant]:
    """A job of this tree, and of an earlier release where one is given."""
    found: dict[str, Contestant] = {"this tree": partial(job, str(HERE))}
    if earlier := os.environ.get(EARLIER):
        found["the earlier release"] = partial(job, earlier)
    return found


def work() -> dict[str, Contestant]:
    """What takes long: packing, epochs, answers."""

    def long_commands(source: str, work: Path) -> Figures:
        own = work / f"run-{time.monotonic_ns()}"
        own.mkdir()
        photographs, run = work / "photographs", own / "run"
        this = partial(call, own, source)
        this(COMMAND, "--version")  # compiles
        packing, _ = this(COMMAND, "data", "prepare", photographs, "--image-size", 256)
        scratch = "scratch" if source == str(HERE) else "folder"  # as 0.1.0 calls it
        words = ("--recipe", scratch, "--epochs", 4, "--no-report", "--out", run)
        this(COMMAND, "train", photographs, *words)
        lines = (run / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line)["seconds"] for line in lines]
        predict, _ = this(COMMAND, "predict", run, photographs / "class 0")
        shutil.rmtree(work / "cache", ignore_errors=True)
        return {
            "packing, s": packing,
            "an epoch, s": statistics.median(epochs),
            "predict, s": predict,
        }

    return releases(long_commands)


PARTS = {
    "machine": Part("What this machine can do", machine),
    "packing": Part(
        "JPEGs of 500x375 px to squares of 256 px, two threads",
        partial(packers, "photographs", 256),
        write_photographs,
    ),
    "packing-small": Part(
        "JPEGs of 64 px, two threads", partial(packers, "small", 64), write_small_pictures
    ),
    "data": Part(
        "Batches of an epoch: read, augmented, ready for the network; and a training step",
        data_path,
        write_small_pictures,
    ),
    "steps": Part("A training step of the 2014 network, 64 images of 224 px, 1,000 classes", steps),
    "extraction": Part("Frozen layers, against the largest matrix product", extraction),
    "transfer": Part(
        "A new last layer on the frozen 2012 network: 500 pictures, 10 epochs; the loops are "
        f"scaled from {BATCHES} batches",
        transferring,
        head_job,
    ),
    **{
        f"heads-{classes}": Part(
            f"An epoch of linear heads for {classes} classes on {FEATURES[0]:,} cached features "
            f"of {FEATURES[1]:,} numbers",
            partial(heads, classes),
        )
        for classes in (5, 200)
    },
    "growth": Part("A training step of the recipe scratch, 64 images, as it grows", growth),
    "busy": Part("Training the recipe cifar10-fast", busy),
    "start": Part("Commands, each in a fresh process", start, write_small_pictures),
    "work": Part(
        f"{PHOTOGRAPHS:,} JPEGs of 500x375 px: packed to 256 px, epochs of the recipe scratch, "
        f"{PHOTOGRAPHS // 10} predicted",
        work,
        write_photographs,
    ),
}
