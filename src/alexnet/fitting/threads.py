"""What threads compute at the same time, each alone: shards of a batch, with a copy of the network
over the same weights for each thread, and what an optimiser makes of each weight.

Such threads meet once a step. Those within an operation meet after each of hundreds, and beside a
busy program all of them wait each time for the one that has lost its core. What one computes does
not depend on how many there are, either.
"""

import contextlib
import copy
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from alexnet import ranks

T = TypeVar("T")
U = TypeVar("U")

_pools: dict[int, ThreadPoolExecutor] = {}
_replicas: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()
if hasattr(os, "register_at_fork"):  # threads are not copied
    os.register_at_fork(after_in_child=_pools.clear)


def at_once(call: Callable[[T], U], given: Iterable[T], threads: int | None = None) -> Iterator[U]:
    """`call(one)` of each that is given, in this order, by as many threads as torch has, or so
    many; whatever is computed within is computed by one."""
    return _pool(threads or torch.get_num_threads()).map(call, given)


def _pool(count: int) -> ThreadPoolExecutor:
    """Threads whose operations have no threads of their own."""
    if count not in _pools:
        usual, all_there = torch.get_num_threads(), threading.Barrier(count)

        def begin() -> None:
            torch.get_num_threads()  # a thread's first look gives it the number of the process
            torch.set_num_threads(1)
            all_there.wait()

        pool = ThreadPoolExecutor(count, "alexnet", initializer=begin)
        for one in [pool.submit(lambda: None) for _ in range(count)]:
            one.result()
        torch.set_num_threads(usual)  # of threads that others begin later
        _pools[count] = pool
    return _pools[count]


class Meeting:
    """Where the threads of a step, and of all ranks, add up what each found of its own shard."""

    def __init__(self, sharding: ranks.Sharding) -> None:
        self._sharding = sharding
        self._found: dict[int, Tensor] = {}  # of each shard of this process
        self._total = torch.empty(0)
        self._failed: BaseException | None = None  # why nobody meets any more
        self._all_there = threading.Barrier(len(sharding.mine), self._add_up)

    def total(self, place: int, vector: Tensor) -> Tensor:
        """The sum of a vector (P,) over all shards, for the thread that has this one; what another
        thread failed with, where one has."""
        self._found[place] = vector
        try:
            self._all_there.wait()
        except threading.BrokenBarrierError:
            if self._failed is None:
                raise
            raise self._failed from None
        return self._total.clone()  # no thread is here again before all have been

    def _add_up(self) -> None:
        parts = ((place, 1, self._found[place].clone()) for place in self._sharding.mine)
        like = torch.empty_like(self._found[self._sharding.mine[0]])
        try:
            self._total = ranks.total(parts, self._sharding.count, like)
        except BaseException as error:
            self._failed = error  # before the barrier, whose lock this thread holds, lets others go
            raise

    @contextlib.contextmanager
    def or_nobody(self) -> Iterator[None]:
        """Whoever fails in it is not waited for."""
        try:
            yield
        except BaseException as error:
            self._failed = self._failed or error
            self._all_there.abort()
            raise


def on_replicas(
    model: nn.Module,
    call: Callable[[nn.Module, T], U],
    given: Sequence[T],
    threads: int | None = None,
) -> Iterator[U]:
    """`call(network, one)` of each that is given, as `at_once`: of the network or one like it, with
    its weights, which must not be changed, and gradients and buffers of its own. Elsewhere than on
    a CPU the network itself is called, here."""
    if next(model.parameters()).device.type != "cpu":
        return (call(model, one) for one in given)
    networks = _replicas.setdefault(model, [])
    while len(networks) < min(len(given), threads or torch.get_num_threads()):
        networks.append(_replica(model))
    free: queue.SimpleQueue[nn.Module] = queue.SimpleQueue()
    for network in networks:
        for own, its in zip(model.parameters(), network.parameters(), strict=True):
            its.data, its.requires_grad = own.data, own.requires_grad
        free.put(network)

    def with_network(one: T) -> U:
        network = free.get()
        try:
            return call(network, one)
        finally:
            free.put(network)

    return at_once(with_network, given, threads)


def _replica(model: nn.Module) -> nn.Module:
    weights = {id(one): nn.Parameter(one.detach(), one.requires_grad) for one in model.parameters()}
    return copy.deepcopy(model, weights)
