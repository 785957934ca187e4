"""What threads compute at the same time, each alone: shards of a batch, with a copy of the network
over the same weights for each thread, and what an optimiser makes of each weight.

Such threads meet once a step. Those within an operation meet after each of hundreds, and beside a
busy program all of them wait each time for the one that has lost its core. What one computes does
not depend on how many there are, either.
"""

import copy
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

T = TypeVar("T")
U = TypeVar("U")

_pools: dict[int, ThreadPoolExecutor] = {}
_replicas: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()
if hasattr(os, "register_at_fork"):  # threads are not copied
    os.register_at_fork(after_in_child=_pools.clear)


def at_once(call: Callable[[T], U], given: Iterable[T]) -> Iterator[U]:
    """`call(one)` of each that is given, in this order, by as many threads as torch has; whatever
    is computed within is computed by one."""
    return _pool(torch.get_num_threads()).map(call, given)


def _pool(count: int) -> ThreadPoolExecutor:
    """Threads whose operations have no threads of their own."""
    if count not in _pools:
        all_there = threading.Barrier(count)

        def begin() -> None:
            torch.get_num_threads()  # a thread's first look gives it the number of the process
            torch.set_num_threads(1)
            all_there.wait()

        pool = ThreadPoolExecutor(count, "alexnet", initializer=begin)
        for one in [pool.submit(lambda: None) for _ in range(count)]:
            one.result()
        torch.set_num_threads(count)  # of threads that others begin later
        _pools[count] = pool
    return _pools[count]


def on_replicas(
    model: nn.Module, call: Callable[[nn.Module, T], U], given: Sequence[T]
) -> Iterator[U]:
    """`call(network, one)` of each that is given, as `at_once`: of the network or one like it, with
    its weights, which must not be changed, and gradients and buffers of its own. Elsewhere than on
    a CPU the network itself is called, here."""
    if next(model.parameters()).device.type != "cpu":
        return (call(model, one) for one in given)
    networks = _replicas.setdefault(model, [])
    while len(networks) < min(len(given), torch.get_num_threads()):
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

    return at_once(with_network, given)


def _replica(model: nn.Module) -> nn.Module:
    weights = {id(one): nn.Parameter(one.detach(), one.requires_grad) for one in model.parameters()}
    return copy.deepcopy(model, weights)
