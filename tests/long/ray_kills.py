"""A sweep of 24 trials on a Ray cluster of 4 nodes on this machine, of which some are killed while
it runs: every trial must come to an end once, with the results of one machine.

    python tests/long/ray_kills.py --kills 2 --seed 1
    python tests/long/ray_kills.py --head         # the cluster itself dies; then the same command

A node is a raylet of one processor; with it die the workers on it. With --head the whole cluster is
killed once, a new one is started, and the same sweep is asked of it again. Prints what was killed
when and what came of it; exit code 1 if a trial is missing, was trained twice, or differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "OMP_NUM_THREADS": "1",
}

from makers import class_folders, table
from ray.cluster_utils import Cluster

NODES, TRIALS = 4, 24
RECIPE = """--recipe scratch --width 0.2 --image-size 40 --crop 36 --batch-size 24 --jitter 0.2
--precision fp32 --no-report --no-tensorboard --epochs 6""".split()
GRID = "--grid lr=0.1,0.03,0.01,0.003,0.001,0.0003 --grid momentum=0.9,0.5 --grid flip=true,false"
SWEEP = ["-m", "alexnet", "sweep", "{data}", *RECIPE, *GRID.split()]


def begun(sweep: Path) -> int:
    """Trials that have saved something."""
    return len(list(sweep.glob("trials/*/epochs.jsonl")))


def started_cluster() -> Cluster:
    """A head without a processor, and nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(NODES):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    return cluster


def kill_nodes(cluster: Cluster, sweep: Path, kills: int, draw: random.Random) -> None:
    """Each when so many trials have begun, drawn at random."""
    nodes = sorted(cluster.worker_nodes, key=lambda node: node.unique_id)
    for at in sorted(draw.sample(range(2, TRIALS - 4), kills)):
        while begun(sweep) < at:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 2))
        node = nodes.pop(draw.randrange(len(nodes)))
        print(f"a node is killed, {begun(sweep)} trials have begun", flush=True)
        cluster.remove_node(node, allow_graceful=False)


def kill_all(cluster: Cluster, sweep: Path, draw: random.Random) -> None:
    """Every process of the cluster at once."""
    at = draw.randrange(3, TRIALS - 4)
    while begun(sweep) < at:
        time.sleep(0.02)
    print(f"the cluster is killed, {begun(sweep)} trials have begun", flush=True)
    for node in [*cluster.worker_nodes, cluster.head_node]:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def wrong(whole: Path, broken: Path) -> list[str]:
    """What is not as on one machine."""
    found = []
    if len(table(broken)) != TRIALS:
        found.append(f"{len(table(broken))} results of {TRIALS}")
    if table(broken) != table(whole):
        found.append("the tables differ")
    for trial in sorted((broken / "trials").iterdir()):
        lines = (trial / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line)["epoch"] for line in lines]
        if epochs != list(range(1, len(epochs) + 1)):
            found.append(f"{trial.name} has the epochs {epochs}")
        if (trial / "best.safetensors").read_bytes() != (
            whole / "trials" / trial.name / "best.safetensors"
        ).read_bytes():
            found.append(f"{trial.name} has other weights")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--head", action="store_true", help="kill the whole cluster, once")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALEXNET_CACHE"] = f"{folder}/cache"
        data = class_folders(Path(folder, "photos"), dict.fromkeys("abc", 60), size=(48, 40))
        words = [sys.executable, *(word.format(data=data) for word in SWEEP)]
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*words, "--out", str(whole)], check=True, **quiet)
        cluster = started_cluster()
        on_ray = [*words, "--out", str(broken), "--ray", cluster.address, "--jobs", str(NODES)]
        said = Path(folder, "said.txt")
        with open(said, "w", encoding="utf-8") as errors:
            driver = subprocess.Popen(on_ray, stdout=subprocess.DEVNULL, stderr=errors)
        begun_at, found = time.monotonic(), []
        if asked.head:
            kill_all(cluster, broken, draw)
            print(f"the command ended with {driver.wait(timeout=300)}", flush=True)
            if "the head of the Ray cluster does not answer" not in said.read_text("utf-8"):
                found.append("nobody said that the cluster was gone")
            print(f"{time.monotonic() - begun_at:.0f} s; again, on a new cluster", flush=True)
            cluster = started_cluster()
            on_ray[on_ray.index("--ray") + 1] = cluster.address
            driver = subprocess.Popen(on_ray, **quiet)
        else:
            killer = threading.Thread(
                target=kill_nodes, args=(cluster, broken, asked.kills, draw), daemon=True
            )
            killer.start()
        code = driver.wait(timeout=900)
        found += [f"the command ended with {code}"] if code else wrong(whole, broken)
        cluster.shutdown()
        seconds = time.monotonic() - begun_at
        verdict = "; ".join(found) or f"{TRIALS} results, the same as on one machine"
        print(f"{verdict}; {seconds:.0f} s")
        return bool(found)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
