"""The benchmark that can be trusted: parts of `parts.py`, each with ours and others on one job.

    uv run python benchmarks/run.py                             # every part, 3 rounds
    uv run python benchmarks/run.py --only heads growth --rounds 5
    uv run python benchmarks/run.py --only start work --earlier /where/alexnet-0.1.0/src
    uv run python docs/results.py                               # writes docs/benchmarks.md

Each contestant runs in a process of its own, in turns, the order turned round from round to round,
so that all see the same moments of a noisy machine; a round waits until other programs leave the
processor alone. results/speed/PART.json is written after every round, with what they left at its
beginning or its end; a part that this version of src/ was measured with is gone on with, or kept as
it is, unless --again. Everything else lies in a temporary folder, the cache included.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import parts
import torch

from alexnet.runtime import choose_device, choose_precision, environment
from alexnet.sweeping.limits import share_of_processor

QUIET = 0.9  # of the processor is free for a round to begin
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "speed"


def version() -> str:
    """What is measured: a checksum of the package's sources."""
    sources = sorted((ROOT / "src").rglob("*.py"))
    return hashlib.sha256(b"".join(map(Path.read_bytes, sources))).hexdigest()[:12]


def surroundings() -> dict[str, Any]:
    """The machine, and what of the software decides the time."""
    device = choose_device("auto")
    dtype, _ = choose_precision("auto", device)
    found = environment(device, dtype, "")
    kept = {name: found[name] for name in ("processor", "device", "threads", "precision")}
    return kept | {"torch": found["versions"]["torch"], "alexnet": found["versions"]["alexnet"]}


def contest(part: str, contestant: str, work: Path) -> dict[str, float]:
    """The figures of one contestant, from a process of its own, with compiled bytecode."""
    words = ["--contestant", part, contestant, str(work)]
    kept = {key: one for key, one in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True,
        env=kept | {"ALEXNET_CACHE": str(work / "cache")},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{part}, {contestant}: failed")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def quiet(patience: float) -> float:
    """Waits until other programs leave the processor alone, for so many seconds at most; returns
    what share of it is free."""
    until = time.monotonic() + patience
    while (left := share_of_processor(torch.get_num_threads())) < QUIET:
        if time.monotonic() > until:
            break
        time.sleep(5)
    return left


def measure(name: str, rounds: int, again: bool, patience: float) -> None:
    """Measures a part until there are so many rounds of this version."""
    part, path, now = parts.PARTS[name], RESULTS / f"{name}.json", version()
    found = {} if again or not path.exists() else json.loads(path.read_text(encoding="utf-8"))
    contestants = list(part.contestants())
    if found.get("sources") != now or found["contestants"] != contestants:
        found = {
            "part": name,
            "what": part.what,
            "contestants": contestants,
            "sources": now,
            "date": date.today().isoformat(),
            "environment": surroundings(),
            "rounds": [],
        }
    if len(found["rounds"]) >= rounds:
        print(f"{name}: {len(found['rounds'])} rounds of this version are there")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["ALEXNET_CACHE"] = str(work / "cache")
        part.prepare(work)
        while len(found["rounds"]) < rounds:
            turned = contestants[:: -1 if len(found["rounds"]) % 2 else 1]
            left = quiet(patience)
            figures = {one: contest(name, one, work) for one in turned}
            left = min(left, quiet(0))
            found["rounds"].append(
                {"processor_share": round(left, 3)} | {one: figures[one] for one in contestants}
            )
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(f"{name}: round {len(found['rounds'])} of {rounds}", flush=True)


def main() -> None:
    """Measures; or, in a process of its own, is one contestant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=parts.PARTS, default=[*parts.PARTS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="what is there is measured anew")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds to wait for a quiet machine each round"
    )
    parser.add_argument("--earlier", default="", help="PYTHONPATH of a release, for start and work")
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.earlier:
        os.environ[parts.EARLIER] = asked.earlier
    if asked.contestant:
        part, name, work = asked.contestant
        figures = parts.PARTS[part].contestants()[name](Path(work))
        print(json.dumps({what: round(one, 6) for what, one in figures.items()}))
        return
    for name in asked.only:
        measure(name, asked.rounds, asked.again, asked.patience)


if __name__ == "__main__":
    main()
