"""Several processes that train one network together: who they are, and all that they say to each
other. The only module that knows about ranks; in a process of its own its functions change nothing.

A batch is cut into shards. What comes of each (gradients, statistics, loss) is a vector, and these
are added two by two, as a binary tree whose leaves are the shards: whoever computes which, the sum
has the same bits. Started by torchrun, by `alexnet train --nproc`, or by whatever sets its
variables: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Imports torch
only when they have work to do.
"""

import contextlib
import importlib.metadata
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from alexnet.console import speaking_as, warn
from alexnet.errors import AlexNetError, InputError, RankError, RecipeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed import Store  # type: ignore[attr-defined]

T = TypeVar("T")
ALIKE = ("alexnet", "torch", "numpy", "pillow")  # packages that decide about bits
WAIT = 45.0  # seconds that one waits for the others in the middle of a training
START = 300.0  # seconds within which all must have come
BEAT = 0.5  # seconds between two signs of life
STILL = 45.0  # seconds without one after which a process is given up: a busy host may take 20
TOLD = 30.0  # seconds between two lines about whom one waits for
ASIDE = "alexnet-rank-"  # how the folders of ranks that do not write begin
FAULT = "fault"  # the key under which the first who finds out says what is wrong


# -- who -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """What a launcher says of this process."""

    rank: int
    size: int
    local: int  # which of those on this machine
    local_size: int
    may_restart: bool


def launch() -> Launch | None:
    """What a launcher says of this process; None where it was started by itself."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
    absent = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    words = [os.environ.get(name, absent.get(name, "")) for name in names]
    if not all(word.isdecimal() for word in words) or int(words[0]) >= int(words[1]):
        said = ", ".join(f"{name}={word!r}" for name, word in zip(names, words, strict=True))
        raise InputError(
            f"{said}: these are not the numbers of a process among several.",
            "Start it with torchrun or --nproc, or unset WORLD_SIZE.",
        )
    rank, size, local, local_size = map(int, words)
    may_restart = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    return Launch(rank, size, local, local_size, may_restart)


def own_device(name: str) -> str:
    """Of several GPUs the one of this process, where none is named."""
    me = launch()
    return f"cuda:{me.local}" if me and name == "cuda" else name


@contextlib.contextmanager
def voice() -> Iterator[None]:
    """While the block runs, of several processes only the first says what it does and prints
    results; what the others warn of bears their name."""
    me = launch()
    if me:  # else its store, when it ends, is told about in stack traces of C++
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if me is None or me.rank == 0:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        speaking_as(f"rank {me.rank}"),
    ):
        yield


def require_one() -> None:
    """InputError where several processes were started for what needs one."""
    me = launch()
    if me:
        raise InputError(
            f"{me.size} processes were started together, but only these can be shared: "
            "`alexnet train`, `resume`, `eval`.",
            "Start this command without torchrun.",
        )


def started(count: int) -> bool:
    """Runs this command line in so many processes of this machine, and waits for them; or says that
    there is nothing to start: this is to be the only one, or is one of them.

    Raises:
        RankError: one of them failed, with its exit code; without words where it has said why.
    """
    if count == 1 or launch():
        return False
    cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    in_several(count, sys.executable, "-m", "alexnet", *sys.argv[1:])
    return True


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """While the block runs, processes that are started do without the program that starts them. All
    they call is of this package; `spawn` would have them run a script that has no `if __name__ ==
    "__main__"` again, from its first line."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def in_several(count: int, called: Callable[..., object] | str, *given: Any) -> None:
    """Runs a program or a function with these arguments in so many processes of this machine, which
    may join, and waits for them.

    Raises:
        RankError: as `started`.
    """
    import logging
    import uuid

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    before = logging.root.manager.disable
    logging.disable()  # what the launcher says of ranks they have said themselves
    try:
        with apart():
            elastic_launch(config, called)(*given)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise RankError(f"rank {rank} was ended by signal {-failure.exitcode}.") from error
        raise RankError("", exit_code=failure.exitcode) from error
    except SignalException as error:
        raise RankError("", exit_code=130) from error
    finally:
        logging.disable(before)


# -- the group -------------------------------------------------------------------------------------


class Group:
    """The processes that train together, while they do."""

    def __init__(self, me: Launch) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        self.me, self.rank, self.size = me, me.rank, me.size
        self.entered = 0  # how often this one has waited for all
        self.over = threading.Event()
        try:
            meeting = rendezvous("env://", timeout=timedelta(seconds=START))
            self.store = self._own_store(next(meeting)[0])
        except (RuntimeError, ValueError) as error:
            raise _no_meeting(error) from error
        self.heart = threading.Thread(target=self._beat, daemon=True)
        self.heart.start()
        if self.rank:
            _until(lambda: [0] * (not self.store.check(["all"])))
        else:
            self.store.set("all", "")
        gpus = torch.cuda.device_count()
        if gpus:
            torch.cuda.set_device(me.local % gpus)
        self.together(
            lambda: dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpus else "gloo",
                store=self.store,
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=WAIT),
            )
        )

    def _own_store(self, shared: "Store") -> "Store":
        """A store without what an earlier start left: torchrun's is the same after a restart, and
        the number of restarts is not, on several machines. So the first rank draws a prefix, and
        tells it to whoever asks with a number drawn for this time."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        asked = [f"hello/{rank}" for rank in range(self.size)]
        own = secrets.token_hex()
        if self.rank:
            shared.set(asked[self.rank], own)
            _until(lambda: [0] * (not shared.check([own])))
            return PrefixStore(shared.get(own).decode(), shared)
        store = PrefixStore(own, shared)

        def absent() -> list[int]:
            late = [rank for rank in range(1, self.size) if not store.check([f"life/{rank}"])]
            for rank in late:
                if shared.check([asked[rank]]):
                    shared.set(shared.get(asked[rank]).decode(), own)
            return late

        _until(absent)
        return store

    def _beat(self) -> None:
        count = 0
        with contextlib.suppress(RuntimeError):  # the store has gone, which others find out too
            while True:
                self.store.set(f"life/{self.rank}", f"{count} {self.entered}")
                count += 1
                if self.over.wait(BEAT):
                    return

    def _lives(self) -> list[tuple[int, int]]:
        """Of each rank its last sign of life, and how often it had waited for all by then."""
        words = [self.store.get(f"life/{rank}").decode().split() for rank in range(self.size)]
        return [(int(beat), int(entered)) for beat, entered in words]

    def wait(self, what: str, whom: Sequence[int]) -> None:
        """Until these have said that, however long they take, as long as all show signs of life."""
        seen: dict[int, tuple[int, float]] = {}  # of each rank the last beat, and when it was new

        def absent() -> list[int]:
            return [rank for rank in whom if not self.store.check([f"{what}/{rank}"])]

        def late() -> list[int]:
            if self.store.check([FAULT]) and absent():
                raise self._fault("")
            now = time.monotonic()
            for rank, (beat, _) in enumerate(self._lives()):
                if rank not in seen or seen[rank][0] != beat:
                    seen[rank] = beat, now
            found = absent()
            if still := [rank for rank in found if now - seen[rank][1] > STILL]:
                raise self._fault(_ranks(still, *DEAD))
            return found

        self.watched(lambda: _until(late, seconds=float("inf")))

    def say(self, what: str, words: str = "") -> None:
        """Tells the others, who may wait for it."""
        with contextlib.suppress(RuntimeError):  # the store has gone, which comes out when waiting
            self.store.set(f"{what}/{self.rank}", words)

    def together(self, call: Callable[[], T]) -> T:
        """What all call at the same time; RankError that names who does not."""
        self.entered += 1
        return self.watched(call)

    def watched(self, call: Callable[[], T]) -> T:
        """Calls what fails where another rank does, and names that."""
        try:
            return call()
        except RuntimeError as error:
            try:
                found = self._missing()
            except RuntimeError:
                found = RankError("the store has gone, and with it rank 0 or the launcher.")
            raise found from error

    def _missing(self) -> RankError:
        """Who is not where this one waits."""
        before = self._lives()
        time.sleep(4 * BEAT)
        if self.store.check([FAULT]):  # somebody knew before
            return self._fault("")
        now = self._lives()
        others = [rank for rank in range(self.size) if rank != self.rank]
        dead = [rank for rank in others if now[rank][0] == before[rank][0]]
        behind = [rank for rank in others if now[rank][1] < self.entered and rank not in dead]
        found = [_ranks(one, *how) for one, how in ((dead, DEAD), (behind, BEHIND)) if one]
        return self._fault(" ".join(found) or "the connection between the ranks broke.")

    def _fault(self, words: str, code: int = 1) -> RankError:
        """What is wrong: the first who finds out says it for all."""
        known = self.store.compare_set(FAULT, "", f"{code} {words}").decode()
        said, _, why = known.partition(" ")
        return RankError(why, exit_code=int(said))

    def alike(self, facts: Mapping[str, object]) -> None:
        """See `require_alike`."""
        self.say("facts", json.dumps({name: str(one) for name, one in facts.items()}))
        self.wait("facts", range(self.size))
        said = [json.loads(self.store.get(f"facts/{rank}")) for rank in range(self.size)]
        for name in facts:
            for rank, other in enumerate(said):
                if other.get(name) != said[0].get(name):
                    raise InputError(
                        f"rank 0 and rank {rank} differ in {name}: {said[0].get(name)} and "
                        f"{other.get(name)}.",
                        "All must have the same data, recipe and versions.",
                    )

    def close(self, error: BaseException | None) -> None:
        """Leaves; where that is because of an error, the others are told. What the first rank says
        as well is said once."""
        import torch.distributed as dist

        if error:
            with contextlib.suppress(RuntimeError):
                words = (str(error).splitlines() or [type(error).__name__])[0]
                if not isinstance(error, RankError):
                    code = getattr(error, "exit_code", 1)
                    self._fault(f"{_ranks([self.rank])} stopped: {words}", code)
                if self._first_says(words) and isinstance(error, AlexNetError):
                    error.message = error.hint = ""
        self.over.set()
        self.heart.join()
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()

    def _first_says(self, words: str) -> bool:
        """Whether this is another than the first rank, which ends with the same words within a
        moment; the first, which may hold the store, waits until the others have seen that."""
        heard = [f"heard/{rank}" for rank in range(1, self.size)]
        if not self.rank:
            self.store.set("end", words)
        awaited = ["end"] if self.rank else heard
        until = time.monotonic() + 4 * BEAT
        while not (there := self.store.check(awaited)) and time.monotonic() < until:
            time.sleep(BEAT / 10)
        end = self.store.get("end").decode() if self.rank and there else None
        same = end is not None and words in (end, f"rank 0 stopped: {end}")
        if self.rank:
            self.store.set(heard[self.rank - 1], "")
        return same


def _ranks(found: Sequence[int], one_has: str = "", all_have: str = "") -> str:
    several = len(found) > 1
    names = f"rank{'s' * several} {' and '.join(map(str, found))}"
    return " ".join(filter(None, [names, all_have if several else one_has]))


DEAD = "has died or does not move any more.", "have died or do not move any more."
BEHIND = "has not come to where the others wait.", "have not come to where the others wait."


def _until(late: Callable[[], Sequence[int]], seconds: float = START) -> None:
    """Waits until no rank is late any more, and says every now and then who is; RankError after so
    many seconds."""
    begun = told = time.monotonic()
    while found := late():
        now = time.monotonic()
        if now - begun > seconds:
            raise RankError(_ranks(found, "has not come.", "have not come."))
        if now - told > TOLD:
            told = now
            warn(f"waiting for {_ranks(found)}")
        time.sleep(BEAT / 10)


def _no_meeting(error: Exception) -> Exception:
    """What it means that the processes do not find each other."""
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    if "EADDRINUSE" in str(error) or "in use" in str(error):
        return InputError(
            f"the port of {where} is in use by another program.", "Choose another MASTER_PORT."
        )
    return RankError(
        f"rank 0 cannot be reached at {where}.",
        f"All need the same MASTER_ADDR and MASTER_PORT ({str(error).splitlines()[0]}).",
    )


_group: Group | None = None
_inside = False  # a block of `joined`, also after `leave`


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """While the block runs, or until it has left, this process is one of those that were started
    together."""
    global _group, _inside
    me = launch()
    if me is None or _inside:
        yield
        return
    cores = os.cpu_count() or 1
    if me.rank == 0 and me.local_size > cores:
        warn(f"{me.local_size} processes on {cores} cores: no faster than {cores}")
    _inside = True
    failed: BaseException | None = None
    try:
        _group = Group(me)
        yield
    except BaseException as error:
        failed = error
        raise
    finally:
        _inside = False
        _close(failed)


def _close(error: BaseException | None = None) -> None:
    global _group
    if _group is not None:
        _group.close(error)
        _group = None


def leave() -> bool:
    """Ends the group when all have come here. Whether this process goes on, alone."""
    if _group is None:
        return True
    first = _group.rank == 0
    any_of(False)
    _close()
    return first


def size() -> int:
    """How many processes train together."""
    return _group.size if _group else 1


def is_first() -> bool:
    """Whether this is the one that writes."""
    me = launch()
    return me is None or me.rank == 0


def is_first_here() -> bool:
    """Whether this is the one that writes on its machine."""
    return _group is None or _group.me.local == 0


@contextlib.contextmanager
def first_here_first(what: str) -> Iterator[None]:
    """The block runs on the first rank of each machine, and then on the others: they find what it
    has made."""
    group = _group
    if group and group.me.local:
        group.wait(what, [group.rank - group.me.local])
    yield
    if group and not group.me.local:
        group.say(what)


def meet(what: str) -> None:
    """All wait here for all, however long it takes."""
    if _group:
        _group.say(what)
        _group.wait(what, range(_group.size))


def require_alike(facts: Mapping[str, object]) -> None:
    """InputError on every rank unless all have the same facts and versions, which may take long to
    find; names what differs, and who."""
    if _group:
        _group.alike({**versions(), **facts})


def versions() -> dict[str, str]:
    """Of the packages that must be alike on all machines."""
    return {name: importlib.metadata.version(name) for name in ALIKE}


def may_restart() -> bool:
    """Whether the launcher starts all anew if one of them fails, so that this may be such a
    start."""
    return _group is not None and _group.me.may_restart


def require_named(out: str | Path | None) -> None:
    """InputError where a restart could not find the run directory."""
    if may_restart() and not out:
        raise InputError(
            "after a restart the run directory would not be found.",
            "Name it: --out RUN, or leave out --max-restarts.",
        )


# -- what is the first one's -----------------------------------------------------------------------


@contextlib.contextmanager
def directory_of_first(path: str | Path, names: Iterable[str]) -> Iterator[str | Path]:
    """A folder as the first rank has it: there itself; elsewhere one for the time of the block,
    with copies of these files, as far as they are there."""
    if _group is None:
        yield path
        return
    if _group.rank == 0:
        for name in names:
            _send(Path(path) / name)
        yield path
        return
    from filelock import FileLock, Timeout

    with tempfile.TemporaryDirectory(prefix=ASIDE) as folder, FileLock(f"{folder}.lock") as lock:
        for left in Path(folder).parent.glob(f"{ASIDE}*.lock"):  # by those who were killed
            with contextlib.suppress(OSError, Timeout), FileLock(left, timeout=0):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink()
        for name in names:
            _receive(Path(folder) / name)
        yield Path(folder)
        Path(lock.lock_file).unlink(missing_ok=True)


def _send(path: Path) -> None:
    import numpy as np
    import torch

    data = np.fromfile(path, np.uint8) if path.is_file() else None
    _broadcast(torch.tensor([-1 if data is None else len(data)]))
    if data is not None and len(data):
        _broadcast(torch.from_numpy(data))


def _receive(path: Path) -> None:
    import torch

    count = torch.empty(1, dtype=torch.int64)
    _broadcast(count)
    if int(count) >= 0:
        data = torch.empty(int(count), dtype=torch.uint8)
        if int(count):
            _broadcast(data)
        data.numpy().tofile(path)


def _broadcast(tensor: "Tensor") -> None:
    import torch.distributed as dist

    assert _group is not None  # noqa: S101  who calls has looked
    _group.together(lambda: dist.broadcast(tensor, 0))


def on_first(call: Callable[..., object], *given: Any) -> None:
    """Calls it, on the first rank alone."""
    if is_first():
        call(*given)


def from_first(module: "torch.nn.Module", load: Callable[[], object]) -> None:
    """Has the first rank load the weights of a module, and all have them."""
    on_first(load)
    if _group:
        for tensor in module.state_dict().values():
            plain = tensor.contiguous()
            _broadcast(plain)
            tensor.copy_(plain)


# -- what is everybody's ---------------------------------------------------------------------------


def any_of(flag: bool) -> bool:
    """Whether one of the ranks says so."""
    return flag if _group is None else least(-flag) < 0


def least(number: int) -> int:
    """The least of what the ranks say."""
    if _group is None:
        return number
    import torch
    import torch.distributed as dist

    found = torch.tensor([number])
    _group.together(lambda: dist.all_reduce(found, dist.ReduceOp.MIN))
    return int(found)


def part(count: int) -> range:
    """Which of so many, in order, are this process's."""
    if _group is None:
        return range(count)
    return _part(count, _group.rank, _group.size)


def _part(count: int, rank: int, size: int) -> range:
    return range(count * rank // size, count * (rank + 1) // size)


def concatenated(pieces: Sequence["Tensor"], dtype: "torch.dtype") -> "Tensor":
    """The rows of all ranks, in their order, on the CPU: (n, ...) of each piece -> (N, ...)."""
    import torch
    import torch.distributed as dist

    own = torch.cat(list(pieces)).cpu() if pieces else torch.empty(0, dtype=dtype)
    if _group is None:
        return own
    group = _group
    shape = torch.zeros(8, dtype=torch.int64)
    shape[: own.ndim] = torch.tensor(own.shape)
    shapes = torch.zeros(group.size, 8, dtype=torch.int64)
    group.together(lambda: dist.all_gather_into_tensor(shapes.view(-1), shape))
    longest, *rest = shapes.amax(0).tolist()  # who has no rows does not know the rest
    sent = torch.zeros(longest, *filter(None, rest), dtype=dtype)
    if len(own):
        sent[: len(own)] = own
    found = torch.zeros(group.size, *sent.shape, dtype=dtype)
    group.together(lambda: dist.all_gather_into_tensor(found.view(-1), sent.view(-1)))
    return torch.cat([rows[:count] for rows, count in zip(found, shapes[:, 0], strict=True)])


# -- shards ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sharding:
    """Into how many shards each batch is cut, and which of them are this process's."""

    count: int = 1
    mine: range = range(1)
    alone: bool = True  # no other process computes the rest
    sync_norm: bool = False  # batch normalisation looks at all shards together

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to add."""
        return self.alone and self.count == 1


WHOLE = Sharding()


def sharding(count: int, sync_norm: bool = False) -> Sharding:
    """How this process shares the work."""
    if sync_norm and count < size():
        raise RecipeError(
            f"sync_norm wants a shard for each process, got {count} for {size()}: leave shards "
            f"open, or cut batches into --shards {size()} or more"
        )
    if is_first() and count < size():
        warn(
            f"{size()} processes, but batches are cut into {count} shards: "
            f"{size() - count} of them have nothing to compute"
        )
    return Sharding(count, part(count), _group is None, sync_norm)


Part = tuple[int, int, "Tensor"]  # the first of some shards, how many they are, their sum


def added(parts: Iterable[Part]) -> list[Part]:
    """Parts in order, added up as far as they are halves of a whole: of a binary tree whose leaves
    are the shards. So each sum has its bits from the shards alone, whoever adds them."""
    found: list[Part] = []
    for one in parts:
        found.append(one)
        while len(found) > 1 and found[-2][1] == found[-1][1] and found[-2][0] % (2 * one[1]) == 0:
            (start, count, left), (_, _, right) = found[-2:]
            one = (start, 2 * count, left.add_(right))
            found[-2:] = [one]
    return found


def _whole(parts: Iterable[Part]) -> "Tensor":
    """The sum of all parts."""
    *rest, (_, _, total) = added(parts)
    for _, _, left in reversed(rest):
        total = left.add_(total)
    return total


def _nodes(shards: range) -> list[tuple[int, int]]:
    """What `added` makes of these shards: the first and the number of each part."""
    found: list[tuple[int, int]] = []
    start = shards.start
    while start < shards.stop:
        count = 1
        while start % (2 * count) == 0 and start + 2 * count <= shards.stop:
            count *= 2
        found.append((start, count))
        start += count
    return found


def total(parts: Iterable[Part], count: int, like: "Tensor") -> "Tensor":
    """The sum over all shards of all ranks, in one order whatever their number.

    Args:
        parts: of the shards of this process, in order: each (P,).
        count: of all shards.
        like: (P,) an empty vector on the right device.
    """
    if _group is None:
        return _whole(parts)
    import torch

    group, own = _group, added(parts)
    each = [_nodes(_part(count, rank, group.size)) for rank in range(group.size)]
    width = -(-len(like) // group.size)  # each rank adds up a piece of the vector
    pad = width * group.size - len(like)
    sent = like.new_empty(group.size, len(own), width)
    for place, (_, _, vector) in enumerate(own):
        sent[:, place] = torch.nn.functional.pad(vector, (0, pad)).view(group.size, width)
    received = like.new_empty(sum(map(len, each)), width)
    _exchange(list(sent.flatten(1)), [one.view(-1) for one in received.split(list(map(len, each)))])
    nodes = [node for found in each for node in found]
    piece = _whole((*node, row) for node, row in zip(nodes, received, strict=True))
    whole = like.new_empty(group.size, width)
    _exchange([piece] * group.size, list(whole))
    return whole.view(-1)[: len(like)]


def _exchange(sent: "Sequence[Tensor]", received: "Sequence[Tensor]") -> None:
    """Sends each rank a vector and takes one from each, all at once. What is to come is asked for
    before anything is sent: gloo's word that it may be sent would wait behind the vector that goes
    the other way, and on a slow link both took nearly twice as long."""
    import torch.distributed as dist

    assert _group is not None  # noqa: S101  who is alone has nothing to exchange
    group = _group
    others = [rank for rank in range(group.size) if rank != group.rank]
    received[group.rank].copy_(sent[group.rank])
    moves = [dist.P2POp(dist.irecv, received[other], other) for other in others]
    moves += [dist.P2POp(dist.isend, sent[other], other) for other in others]

    def carry_out() -> None:
        for move in dist.batch_isend_irecv(moves):
            move.wait()

    group.together(carry_out)
