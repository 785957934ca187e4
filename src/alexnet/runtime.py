"""Where am I (device, precision, threads, versions) and where is the cache."""

import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import math
import os
import platform
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
import torch

from alexnet import ranks
from alexnet.cache import cache_folder
from alexnet.errors import RecipeError

# names and values of glibc's malloc.h
M_MMAP_MAX_0, M_TRIM_THRESHOLD_2_GIB, M_TOP_PAD_64_MIB = (-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # without it cuBLAS has no deterministic products
SAVED_AFTER = 1.0  # seconds; flushing files to the disk takes longer than a small epoch
STOPPING = (signal.SIGINT, signal.SIGTERM)
P = ParamSpec("P")
T = TypeVar("T")


class _Fork:
    """What a forked process has to do without."""

    cuda_is_lost = False  # CUDA cannot be used in a copy of a process that used it
    used_cuda = False

    def before(self) -> None:
        self.used_cuda = torch.cuda.is_initialized()

    def in_child(self) -> None:
        """OpenMP's threads are not copied either: a parallel region would wait for them for ever.
        With one thread there are no parallel regions."""
        self.cuda_is_lost = self.used_cuda or self.cuda_is_lost
        torch.set_num_threads(1)


_fork = _Fork()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_fork.before, after_in_child=_fork.in_child)


def choose_device(name: str) -> torch.device:
    """The device of a recipe: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        RecipeError: not a device, or not one of this machine.
    """
    if name == "auto":
        there = torch.cuda.is_available() and not _fork.cuda_is_lost
        name = "cuda" if there else "cpu"
    name = ranks.own_device(name)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(
            f"device is {name!r}, expected auto, cpu, cuda, cuda:N or mps.", "Use --device auto."
        ) from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if (device.index or 0) >= count.get(device.type, 0):
        raise RecipeError(
            f"this machine has no device {name!r}.", "Use --device auto, or --device cpu."
        )
    return device


def choose_precision(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The arithmetic of a recipe and the reason for it: bfloat16 where the hardware multiplies it,
    float32 elsewhere."""
    if name == "fp32":
        return torch.float32, "as asked"
    if name == "bf16":
        return torch.bfloat16, "as asked"
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "the GPU has it"
    if device.type == "cpu" and cpu_has_bf16():
        return torch.bfloat16, "the CPU has it"
    return torch.float32, f"this {device.type.upper()} has no bf16"


def arithmetic(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which products are computed in `dtype` (bfloat16), and sums that need it in
    float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 (AVX-512 BF16 or AMX); elsewhere it would be
    emulated, and slow."""
    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.10 does not have it yet
        flags = torch.cpu.get_capabilities()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    with contextlib.suppress(OSError):
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
        return bool(words & {"avx512_bf16", "amx_bf16"})
    return False


def keep_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of giving it back: large tensors
    otherwise cost a page fault for every 4 KiB, in every step. It is a setting of the whole
    process, so only programs of our own call it; other C libraries are left alone."""
    with contextlib.suppress(OSError, AttributeError):
        if platform.libc_ver()[0] == "glibc":
            libc = ctypes.CDLL(None)
            for setting, value in M_MMAP_MAX_0, M_TRIM_THRESHOLD_2_GIB, M_TOP_PAD_64_MIB:
                libc.mallopt(setting, value)


def memory_limit(top: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory that this process may use: of the machine, or of its control group, whose
    files Linux has in one of two forms; 0 where that is not known."""
    found = []
    with contextlib.suppress(OSError, ValueError, AttributeError):  # Windows has no sysconf
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    lines = mine.read_text(encoding="utf-8").splitlines() if mine.exists() else []
    for _, kind, name in (line.split(":", 2) for line in lines if line.count(":") > 1):
        # 5:memory:/name, or 0::/name
        group = {"memory": (top / "memory", "memory.limit_in_bytes"), "": (top, "memory.max")}
        folder, limit = group.get(kind, (top, ""))
        for own in (folder / name.lstrip("/"), folder) if limit else ():
            with contextlib.suppress(OSError, ValueError):  # "max" is none
                found.append(int((own / limit).read_text(encoding="ascii")))
    return min(found, default=0)


def peak_memory(device: torch.device) -> int:
    """The most memory in bytes that was in use so far: of a CUDA device what tensors took, else
    all of this process; 0 where that is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has none
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak_memory(device: torch.device) -> bool:
    """From here on `peak_memory` speaks of what comes; False where the system does not allow it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        if platform.libc_ver()[0] == "glibc":  # freed memory goes back: see `keep_memory`
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak
    except (OSError, AttributeError):
        return False
    return True


def make_deterministic(device: torch.device) -> None:
    """From here on only algorithms that give the same bits every time; an operation that has none
    is an error."""
    if device.type == "cuda":
        os.environ.setdefault(CUBLAS, ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


class _Setting(NamedTuple):
    """Something that a whole process shares: how to read it, and how to put it back."""

    read: Callable[[], Any]
    put: Callable[[Any], object]


def _put_cudnn(found: tuple[bool, bool]) -> None:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = found


def _put_cublas(found: str | None) -> None:
    os.environ.pop(CUBLAS, None)
    if found is not None:
        os.environ[CUBLAS] = found


def _put_warning_filters(found: list[Any]) -> None:
    warnings.filters[:] = found  # type: ignore[index]
    with warnings.catch_warnings():  # on its way out it has Python look at the filters again
        pass


def _put_signal_handlers(found: list[Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows none
        for number, handler in zip(STOPPING, found, strict=True):
            if handler is not None:  # None: not set from Python
                signal.signal(number, handler)


def _drawing() -> dict[str, Any] | None:
    """matplotlib's settings and backend, without loading it, and without choosing a backend."""
    library = sys.modules.get("matplotlib")
    return dict(dict.items(library.rcParams)) if library else None


def _put_drawing(found: dict[str, Any] | None) -> None:
    if found is not None:  # None: it was loaded in the meantime, and has the user's own settings
        dict.update(sys.modules["matplotlib"].rcParams, found)


_SETTINGS = [
    _Setting(
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda found: torch.use_deterministic_algorithms(found[0], warn_only=found[1]),
    ),
    _Setting(
        lambda: (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic), _put_cudnn
    ),
    _Setting(lambda: os.environ.get(CUBLAS), _put_cublas),
    _Setting(torch.get_num_threads, torch.set_num_threads),
    _Setting(lambda: list(warnings.filters), _put_warning_filters),
    _Setting(lambda: [signal.getsignal(number) for number in STOPPING], _put_signal_handlers),
    _Setting(_drawing, _put_drawing),
]


def _global_generators() -> Callable[[], None]:
    """Reads the global random generators; what is returned puts them back."""
    seed, of_torch = torch.initial_seed(), torch.get_rng_state()
    # NumPy loads its generators when somebody asks for them
    of_numpy = np.random.get_state(legacy=False) if "numpy.random" in sys.modules else None
    of_python = random.getstate()
    of_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    of_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def put_back() -> None:
        torch.set_rng_state(of_torch)
        if of_numpy is not None:
            np.random.set_state(of_numpy)
        elif "numpy.random" in sys.modules:  # in the meantime: as it would have begun
            np.random.seed()
        random.setstate(of_python)
        if of_cuda is not None:
            torch.cuda.set_rng_state_all(of_cuda)
        elif torch.cuda.is_initialized():  # in the meantime: as it would have begun
            torch.cuda.manual_seed_all(seed)
        if of_mps is not None:
            torch.mps.set_rng_state(of_mps)

    return put_back


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """After the block, what a whole process shares is as it was before: the global generators of
    torch, NumPy and Python, deterministic algorithms, cuDNN's choices, the number of threads,
    filters of warnings, signal handlers, matplotlib's settings. Also a decorator.

    Other threads that draw from the global generators in the meantime see them go back.
    """
    put_generators_back = _global_generators()
    before = [setting.read() for setting in _SETTINGS]
    try:
        yield
    finally:
        put_generators_back()
        for setting, found in zip(_SETTINGS, before, strict=True):
            if setting.read() != found:
                setting.put(found)


def yielding_as_found(function: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """A decorator of generators: between two steps everything that `as_found` speaks of is as it
    was before, so the generator must not rely on any of it across a yield."""

    @functools.wraps(function)
    def as_found_between(*given: P.args, **named: P.kwargs) -> Iterator[T]:
        steps = cast(Generator[T, None, None], function(*given, **named))
        try:
            while True:
                with as_found():
                    try:
                        one = next(steps)
                    except StopIteration:
                        return
                yield one
        finally:
            with as_found():
                steps.close()

    return as_found_between


def environment(device: torch.device, dtype: torch.dtype, fingerprint: str) -> dict[str, Any]:
    """What a run depends on besides its recipe, for environment.json."""
    packages = ("alexnet", "numpy", "pillow", "scikit-learn", "safetensors")
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {
        "versions": versions | {name: importlib.metadata.version(name) for name in packages},
        "machine": platform.platform(),
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        **({"ranks": ranks.size()} if ranks.size() > 1 else {}),
        "precision": str(dtype).removeprefix("torch."),
        "data_fingerprint": fingerprint,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def doctor() -> dict[str, str]:
    """What this machine has: versions, device, precision, threads, and what the cache holds, in
    words; any folder of the cache may be deleted, and is made again when it is needed."""
    device = choose_device("auto")
    dtype, reason = choose_precision("auto", device)
    found = environment(device, dtype, "")
    told = {name: str(one) for name, one in found["versions"].items()}
    told |= {key: str(found[key]) for key in ("machine", "processor", "device", "threads")}
    told |= {"precision": f"{found['precision']} ({reason})", "cache": str(cache_folder())}
    for folder in ("downloads", "stores", "features", "weights", "checks"):
        files = [file for file in (cache_folder() / folder).rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        told[f"  {folder}"] = f"{size / 2**30:.2f} GiB{'' if size else ' (nothing)'}"
    return told


def differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of two environments makes sums come out in other bits."""
    names = ("processor", "device", "threads", "precision")
    pairs = [(name, there.get(name), now[name]) for name in names]
    pairs.append(("torch", there["versions"].get("torch"), now["versions"]["torch"]))
    return [f"{name}: {old} there, {new} now" for name, old, new in pairs if old != new]


def processor_name() -> str:
    """The processor's own name, or its architecture."""
    with contextlib.suppress(OSError):
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Pace:
    """Says when something is due that is not worth its time more often than every so many seconds;
    the first time it is."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, -math.inf

    def is_due(self, anyhow: bool = False) -> bool:
        now = time.monotonic()
        if not anyhow and now - self.last < self.seconds:
            return False
        self.last = now
        return True


class StopFlag:
    """True once the user has asked to stop; see `stop_on_signal`."""

    def __init__(self) -> None:
        self.raised = False

    def __bool__(self) -> bool:
        """Of several ranks, once one of them was asked: all stop at the same step."""
        return ranks.any_of(self.raised)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """While the block runs, the first Ctrl-C or SIGTERM raises the yielded flag; a second Ctrl-C
    stops at once.

    Outside the main thread, where Python allows no handlers, the flag just stays down.
    """
    flag = StopFlag()

    def on_signal(*_: object) -> None:
        if flag.raised:
            raise KeyboardInterrupt
        flag.raised = True

    previous = {}
    with contextlib.suppress(ValueError):
        for number in STOPPING:
            previous[number] = signal.signal(number, on_signal)
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
