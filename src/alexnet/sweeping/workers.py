"""Where the jobs of a sweep run: here, one after the other; in processes of this machine; on a Ray
cluster.

Each of the three takes jobs as they come, yields each when it is done, and asks for the next one
only then. What a job came to stands in its trials' directories.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import platform
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from alexnet import console, ranks
from alexnet.atomic import writing
from alexnet.errors import AlexNetError, DiskError, InputError, Interrupted, RankError, needs_extra
from alexnet.ranks import versions
from alexnet.runtime import keep_memory
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.search import judge_of
from alexnet.sweeping.trial_runs import Job, Judge, fail, run_alone, run_job
from alexnet.sweeping.trials import Trial

ATTEMPTS = 2  # a job whose process dies is begun again so often, then its trials have failed
ASKED_TO_STOP = (Interrupted.exit_code, -signal.SIGINT, -signal.SIGTERM)
PATIENCE = 5.0  # seconds between two looks at a cluster
FULL = 74  # exit code of a worker that cannot write (EX_IOERR of sysexits.h)
STOPPED = Interrupted(
    "stopped; everything up to the last epoch is saved.", "The same command goes on."
)


def here(jobs: Iterator[Job]) -> Iterator[Job]:
    """One after the other, in this process."""
    for job in jobs:
        _run(job)
        yield job


def _run(job: Job, judged: bool = True, log: bool = False) -> None:
    """Runs a job in this process, or in processes of its own where a trial needs several.
    `judged`: trials may be given up; `log`: what is said goes to the job's log."""
    with _log(job) if log else contextlib.nullcontext():
        together = partial(_run_together, log=log)
        run_job(job, judge_of(job) if judged else None, together if job.nproc > 1 else run_alone)


def _run_together(job: Job, trial: Trial, judge: Judge | None, log: bool) -> None:
    """Trains one trial in several processes that are started for it."""
    threads = max(1, torch.get_num_threads() // job.nproc)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ranks.in_several(job.nproc, _as_rank, job, trial, judge is not None, log, threads)
            return
        except RankError as error:
            if error.exit_code in ASKED_TO_STOP:
                raise STOPPED from None
            if error.exit_code == FULL:
                raise _cannot_write(job) from None
            if attempt == ATTEMPTS:
                fail(job.sweep.trial(trial.name), f"its processes ended {ATTEMPTS} times. {error}")


def _as_rank(job: Job, trial: Trial, judged: bool, log: bool, threads: int) -> None:
    """One of the processes that train a trial."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_memory()
    torch.set_num_threads(threads)
    logged = _log(job) if log and ranks.is_first() else contextlib.nullcontext()
    with ranks.voice(), logged, ranks.joined():
        judge = judge_of(job) if judged and ranks.is_first() else None
        code = _code_of(partial(run_alone, job, trial, judge))
    if code:
        raise SystemExit(code)


# -- processes of this machine ---------------------------------------------------------------------


def in_processes(jobs: Iterator[Job], count: int) -> Iterator[Job]:
    """`count` at once, each in a process of its own with its share of the threads. What they say
    goes to SWEEP/logs.

    Raises:
        Interrupted: after Ctrl-C; every process has saved its state.
    """
    threads = max(1, torch.get_num_threads() // count)
    spawn = multiprocessing.get_context("spawn")
    running: dict[Any, tuple[BaseProcess, Job, int]] = {}  # by what to wait for

    def start(job: Job, attempt: int = 1) -> None:
        process = spawn.Process(target=_run_in_process, args=(job, threads))
        with ranks.apart():
            process.start()
        running[process.sentinel] = (process, job, attempt)

    try:
        while True:
            while len(running) < count and (job := next(jobs, None)) is not None:
                start(job)
            if not running:
                return
            for sentinel in multiprocessing.connection.wait(list(running)):
                process, job, attempt = running.pop(sentinel)
                process.join()
                if process.exitcode in ASKED_TO_STOP:
                    raise STOPPED
                if process.exitcode == FULL:  # no fault of the trials
                    raise _cannot_write(job)
                if job.missing and attempt < ATTEMPTS:
                    start(job, attempt + 1)
                    continue
                killed = process.exitcode == -9
                why = " (killed, most likely for want of memory)" if killed else ""
                for trial in job.missing:
                    fail(
                        job.sweep.trial(trial.name),
                        f"its process ended {ATTEMPTS} times, with code {process.exitcode}{why}; "
                        f"what it said is in {job.sweep.log(job.name)}",
                    )
                yield job
    except KeyboardInterrupt:
        raise STOPPED from None
    finally:
        for process, _, _ in running.values():
            process.terminate()  # SIGTERM: it saves its state
        for process, _, _ in running.values():
            process.join()


def _run_in_process(job: Job, threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_memory()
    torch.set_num_threads(threads)
    try:
        raise SystemExit(_code_of(partial(_run, job, log=True)))
    except DiskError:
        raise SystemExit(FULL) from None


def _cannot_write(job: Job) -> DiskError:
    return DiskError(
        f"a trial could not write; what it said is in {job.sweep.log(job.name)}.",
        "Free some space; the same command goes on.",
    )


def _code_of(call: Callable[[], object]) -> int:
    """Calls it; the exit code of its process."""
    try:
        call()
    except AlexNetError as error:
        console.say(str(error))
        return FULL if isinstance(error, DiskError) else error.exit_code
    except KeyboardInterrupt:
        return Interrupted.exit_code
    return 0


def _end_with_parent() -> None:
    """A worker whose sweep was killed saves its state and ends, rather than going on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _log(job: Job) -> Iterator[None]:
    """What is said goes to the job's log instead."""
    path = job.sweep.log(job.name)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a", encoding="utf-8")
    with file, console.redirected(file):
        yield


# -- Ray -------------------------------------------------------------------------------------------


def on_ray(jobs: Iterator[Job], address: str, count: int, nproc: int = 1) -> Iterator[Job]:
    """On a Ray cluster, `count` at once; 0: one for each of its nodes.

    A worker that can see the sweep directory (shared storage) writes there; any other works in a
    directory of its own and sends it back. A job whose worker dies is begun again elsewhere, and
    goes on from its last saved state where that is shared. What is no fault of a trial, such as a
    full disk, ends the sweep.

    Args:
        address: "local" starts Ray on this machine; else the address of a running cluster, or
            "auto".
        nproc: how many processes train a trial; all of them run on one node.

    Raises:
        InputError: Ray is not installed, nobody answers at the address, no node is large enough, or
            one has other versions than this machine.
    """
    ray = _connect(address, count)
    watching = _watch(ray.get_runtime_context().gcs_address)
    try:
        resources = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        at_once = count or max(1, nodes)
        share = {"num_cpus": max(nproc, int(resources.get("CPU", 1)) // at_once)}
        if resources.get("GPU"):
            share["num_gpus"] = nproc
        if nproc > 1:
            _require_room(ray.nodes(), nproc, share)
        remote = ray.remote(max_retries=ATTEMPTS, **share)(_run_on_ray)
        expected, running = versions(), dict[Any, Job]()
        while True:
            while len(running) < at_once and (job := next(jobs, None)) is not None:
                sent = replace(job, sweep=SweepDirectory(job.sweep.path.resolve()))
                running[remote.remote(sent, share["num_cpus"], expected)] = job
            if not running:
                return
            [done], _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                _unpack(job, ray.get(done))
            except ray.exceptions.RayError as error:
                if isinstance(cause := getattr(error, "cause", None), AlexNetError):
                    raise cause from None  # what a trial is to blame for is in its directory
                for trial in job.missing:
                    fail(job.sweep.trial(trial.name), f"on Ray: {error}")
            yield job
    except KeyboardInterrupt:
        raise STOPPED from None
    finally:
        watching.set()
        ray.shutdown()


def _require_room(nodes: Sequence[dict[str, Any]], nproc: int, share: dict[str, int]) -> None:
    """InputError unless a node is large enough for all processes of a trial; its share becomes no
    more than that node has."""
    for asked, name in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        if asked in share:
            most = max(int(node["Resources"].get(name, 0)) for node in nodes)
            if nproc > most:
                raise InputError(
                    f"a trial of {nproc} processes wants as many {name}s of one node; the largest "
                    f"node of the cluster has {most}.",
                    f"Use --nproc {max(1, most)}, or start a larger node.",
                )
            share[asked] = min(share[asked], most)


def _connect(address: str, count: int) -> Any:
    # nothing is reported to anybody; under `uv run` Ray would install everything anew for workers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    with needs_extra("--ray", "ray"):
        import ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        knock(address)
        if address == "local":
            cores = os.cpu_count() or 1
            ray.init("local", num_cpus=max(count, cores), include_dashboard=False, **options)
        else:
            ray.init(address, **options)
    except (OSError, ValueError, RuntimeError, SystemExit) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r} ({error}).",
            "Use --ray local, or the address that `ray start --head` printed.",
        ) from error
    return ray


def _watch(address: str) -> threading.Event:
    """Says it when the head of a cluster is gone, until the event is set: a minute later Ray ends
    this process without a word that would help."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(PATIENCE):
            try:
                knock(address)
            except OSError as error:
                console.warn(
                    f"the head of the Ray cluster does not answer any more ({error}); if it is "
                    "gone, this command ends within a minute. Nothing is lost: start a cluster, "
                    "and give the same command again."
                )
                return

    threading.Thread(target=look, daemon=True).start()
    return over


def knock(address: str) -> None:
    """OSError unless somebody listens at "host:port"; Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def _run_on_ray(job: Job, threads: int, expected: dict[str, str]) -> dict[str, dict[str, bytes]]:
    """Runs a job on a node; returns the files of its trials where the sweep directory is not
    shared. InputError unless the node has the expected versions."""
    found = versions()
    if other := [name for name in found if found[name] != expected[name]]:
        raise InputError(
            f"node {platform.node()} has "
            + ", ".join(f"{name} {found[name]} (here {expected[name]})" for name in other)
            + ": its trials would not be comparable.",
            "Install the same versions on all nodes; the same command goes on.",
        )
    keep_memory()
    torch.set_num_threads(threads)
    shared = job.sweep.begun
    if not shared:
        own = Path.cwd() / f"sweep-{job.name}"
        own.mkdir(parents=True, exist_ok=True)
        job = replace(job, sweep=SweepDirectory(own))
    _run(job, judged=shared, log=True)
    if shared:
        return {}
    return {trial.name: job.sweep.trial(trial.name).packed() for trial in job.trials}


def _unpack(job: Job, trials: dict[str, dict[str, bytes]]) -> None:
    """Writes the files of a job that ran where the sweep directory is not shared."""
    for name, files in trials.items():
        job.sweep.trial(name).unpack(files)
