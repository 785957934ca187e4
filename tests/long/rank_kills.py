"""Ranks of a training, killed at random: under torchrun's elastic restart the run must end as the
unbroken one does, bit for bit.

    python tests/long/rank_kills.py --kills 20 --ranks 2 --seed 1

Prints what was killed when, and whether the runs are the same; exit code 1 if they are not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from makers import class_folders

from alexnet.runs.directory import RunDirectory
from alexnet.training.again import differing

RECIPE = """--recipe scratch --width 0.2 --image-size 40 --crop 36 --batch-size 24 --jitter 0.2
--shards 4 --average 0.9 --no-report --no-tensorboard""".split()
MOST_SECONDS = 7.0  # from a start to its kill: some are killed before they have met


def workers(agent: int) -> list[int]:
    """The ranks that a launcher has started."""
    try:
        return [
            int(one) for one in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        ]
    except OSError:
        return []


def killed_at_random(agent: subprocess.Popen[bytes], kills: int, draw: random.Random) -> int:
    """Kills one of the ranks after the other, each time a while after all have been started anew;
    how many."""
    known: set[int] = set()
    done = 0
    while done < kills and agent.poll() is None:
        if not set(workers(agent.pid)) - known:
            time.sleep(0.05)
            continue
        wait = draw.uniform(0, MOST_SECONDS)
        time.sleep(wait)
        if there := workers(agent.pid):
            known |= set(there)
            place = draw.randrange(len(there))
            os.kill(there[place], signal.SIGKILL)
            done += 1
            print(f"kill {done}: rank {place}, {wait:.1f} s after the start", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALEXNET_CACHE"] = f"{folder}/cache"
        data = class_folders(Path(folder, "photos"), dict.fromkeys("abc", 160), size=(48, 40))
        train = ["-m", "alexnet", "train", str(data), *RECIPE, "--epochs", str(asked.epochs)]
        whole, broken = (RunDirectory(f"{folder}/{name}") for name in ("whole", "broken"))
        subprocess.run([sys.executable, *train, "--out", str(whole)], check=True)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        torchrun += [str(asked.ranks), "--max-restarts", str(asked.kills + 5)]
        agent = subprocess.Popen([sys.executable, *torchrun, *train, "--out", str(broken)])
        kills = killed_at_random(agent, asked.kills, random.Random(asked.seed))
        code = agent.wait()
        found = [f"torchrun ended with {code}"] if code else differing(whole, broken)
        print(f"{kills} kills: {'; '.join(found) or 'the same in every bit'}")
        return bool(found)


if __name__ == "__main__":
    sys.exit(main())
