"""How soon, and in how many lines, commands that are typed wrongly are answered.

    uv run python benchmarks/mistakes.py [--times 3]

Each is run in a process of its own, in a folder with a few things that mistakes are made with; the
fastest of its times is shown, from the start of the process to its end, and the least processor
time, which is what a machine without other work takes. A command fails where its
answer takes more than half a second, is longer than a screen of 24 lines of 80 columns, does not
say the words that it should, ends with another exit code than 2, or imports torch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT, LINES, COLUMNS = 0.5, 24, 80
TRAIN = "train photos --recipe folder --epochs 1 --warmup 0 --width 0.1 --no-report --out run"

# what is typed, and words that the answer must have
MISTAKES = [
    ("trian photos", "'train'"),
    ("train", "DATA is missing"),
    ("train missing-folder", "no path 'missing-folder'"),
    ("train missing/folder", "nothing at missing/folder"),
    ("train photos more", "word too many"),
    ("train empty", "is empty"),
    ("train notes", "no image"),
    ("train notes/a.txt", "not a zip"),
    ("train one", "one class only"),
    ("train run", "the directory of a run"),
    ("train digitz", "'digits'"),
    ("train cifar10", "alexnet data fetch cifar10"),
    ("train photos --epohcs 3", "'--epochs'"),
    ("train photos --learning-rate 0.1", "'--lr'"),
    ("train photos --epochs three", "a whole number"),
    ("train photos --epochs", "needs a value"),
    ("train photos --lr 0", "above 0"),
    ("train photos --dropout 1", "at most 0.95"),
    ("train photos --model resnet", "expected one of"),
    ("train photos --recipe digts", "'digits'"),
    ("train photos --model 2012 --image-size 256 --crop 224", "--crop 227"),
    ("train photos --model 2014 --image-size 200 --crop 200", "--image-size 223"),
    ("train photos --model 2012 --image-size 227 --init paper", "--std 0.003922"),
    ("train photos --config missing.toml", "nothing at missing.toml"),
    ("train photos --config wrong.toml", "'epochs'"),
    ("train photos --weights imagnet", "imagenet-2014"),
    ("train photos --recipe scratch --freeze conv", "no weights"),
    ("train photos --device tpu", "expected auto, cpu"),
    ("train photos --out photos", "holds other files"),
    ("train photos --resume", "--out RUN"),
    ("resume photos", "not a run directory"),
    ("repeat missing", "nothing at missing"),
    ("eval missing", "nothing at missing"),
    ("eval run --split validation", "expected one of"),
    ("eval run --classes whale", "no class 'whale'"),
    ("eval run missing", "no path 'missing'"),
    ("predict run missing.jpg", "no file missing.jpg"),
    ("predict run", "no images"),
    ("predict missing.onnx a.jpg", "no file missing.onnx"),
    ("explain run a.jpg --top 0", "at least 1"),
    ("export run --format tflite", "expected one of"),
    ("export run --format pt2 --int8", "for ONNX"),
    ("report missing", "nothing at missing"),
    ("learning-curve missing", "nothing at missing"),
    ("suggest run", "no images"),
    ("suggest run missing.jpg", "no file missing.jpg"),
    ("serve missing", "nothing at missing"),
    ("webcam missing", "nothing at missing"),
    ("sweep photos --grid lr", "has no values"),
    ("sweep photos --grid learning_rate=0.1", "'lr'"),
    ("sweep photos", "nothing to sweep"),
    ("data chek photos", "'data check'"),
    ("data check missing", "no path 'missing'"),
    ("data prepare photos --image-size -1", "at least 1"),
    ("weights import missing.pth --as x", "no file missing.pth"),
    ("weights import missing.pth", "--as"),
    ("recipes folders", "'folder'"),
]


def furnish(folder: Path) -> None:
    """A folder with what mistakes are made with."""
    generator = np.random.default_rng(0)
    for name in ("photos/cat", "photos/dog", "one/cat"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    for name in ("empty", "notes"):
        (folder / name).mkdir()
    (folder / "notes/a.txt").write_text("no image")
    (folder / "wrong.toml").write_text("epohcs = 3\n")


def run(words: list[str], folder: Path) -> tuple[int, str, float, float]:
    """The exit code, the answer, the seconds and the seconds of processor time of a command."""
    around = os.environ | {"COLUMNS": str(COLUMNS), "ALEXNET_CACHE": str(folder / "cache")}
    around["PYTHONPATH"] = os.pathsep.join(sys.path[1:])
    # what is imported is written last: the answer comes before it
    code = (
        "import sys; from alexnet.cli import main; code = main(); "
        "print('TORCH' if 'torch' in sys.modules else ''); sys.exit(code)"
    )
    start, used = time.perf_counter(), os.times()
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True)
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return done.returncode, done.stdout + done.stderr, time.perf_counter() - start, cpu


def faults(code: int, answer: str, seconds: float, expected: str) -> list[str]:
    """What is wrong with an answer."""
    lines = sum(max(1, -(-len(line) // COLUMNS)) for line in answer.strip().splitlines())
    found = {
        f"exit code {code}": code != 2,
        f"{seconds:.2f} s": seconds > LIMIT,
        f"{lines} lines": lines > LINES,
        f"does not say {expected!r}": expected not in " ".join(answer.split()),
        "imports torch": "TORCH" in answer,
        "a traceback": "Traceback" in answer,
    }
    return [what for what, wrong in found.items() if wrong]


def main() -> int:
    """Prints the table; 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder)
        assert run(TRAIN.split(), folder)[0] == 0
        print(f"{'seconds':>7}  {'cpu':>5}  {'lines':>5}  alexnet ...")
        for typed, expected in MISTAKES:
            tries = [run(typed.split(), folder) for _ in range(times)]
            code, answer, *_ = tries[0]
            seconds, cpu = min(one[2] for one in tries), min(one[3] for one in tries)
            bad = faults(code, answer, seconds, expected)
            wrong += bool(bad)
            said = answer.strip().removesuffix("TORCH").strip()
            print(
                f"{seconds:7.2f}  {cpu:5.2f}  {len(said.splitlines()):5}  {typed}  {'; '.join(bad)}"
            )
            if bad:
                print("\n".join(f"            {line}" for line in said.splitlines()[:8]))
    print(f"{len(MISTAKES) - wrong} of {len(MISTAKES)} are answered well")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
