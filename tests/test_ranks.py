"""Several processes that train one network together."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from makers import class_folders
from torch import nn

from alexnet import cli, ranks
from alexnet.data import augment
from alexnet.data.store import Batches, Rows, ShardGenerator
from alexnet.errors import InputError, RecipeError
from alexnet.fitting.optimization import make_loss
from alexnet.fitting.step import training_step
from alexnet.fitting.threads import Meeting, at_once
from alexnet.network import frozen
from alexnet.network.inference import predict_logits
from alexnet.network.model import BatchNorm1d, BatchNorm2d, Dropout
from alexnet.ranks import Sharding, added
from alexnet.runs.directory import RunDirectory
from alexnet.training.again import differing


@dataclass
class Ended:
    """How a rank ended, and what it said."""

    code: int
    said: str


def free_port() -> int:
    """A port that nobody has, and that no connection is given before the ranks take it: those come
    from 32,768 on."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port


def started(count: int, do: Callable[[int], Any], folder: Path, **variables: str) -> list[int]:
    """Children of this process, which has torch imported, as ranks: each calls `do` with its
    number."""
    port, pids = free_port(), []
    for rank in range(count):
        pid = os.fork()
        if not pid:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), **variables,
            }  # fmt: skip
            be_rank(rank, do, folder)
        pids.append(pid)
    return pids


def be_rank(rank: int, do: Callable[[int], Any], folder: Path) -> None:
    code = 99
    try:
        signal.alarm(120)
        said = os.open(folder / f"said{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False, buffering=1)
        code = do(rank) or 0
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pids: list[int], folder: Path) -> list[Ended]:
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return [Ended(code, (folder / f"said{r}").read_text()) for r, code in enumerate(codes)]


def in_ranks(count: int, do: Callable[[int], Any], folder: Path, **variables: str) -> list[Ended]:
    return ended(started(count, do, folder, **variables), folder)


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", {"cat": 24, "dog": 25, "eel": 24}, size=(20, 16))


def words(data: Path, out: Path, *more: object) -> list[str]:
    how = "--recipe scratch --width 0.1 --image-size 36 --crop 32 --batch-size 13 --epochs 3 "
    how += "--precision fp32 --no-report --no-tensorboard --jitter 0.2 --seed 3"
    return ["train", str(data), "--out", str(out), *how.split(), *map(str, more)]


def trained(count: int, data: Path, out: Path, *more: object, **variables: str) -> list[Ended]:
    """`alexnet train` in so many ranks."""
    if count == 1:
        return [Ended(cli.main(words(data, out, *more)), "")]
    run = words(data, out, *more)
    return in_ranks(count, lambda rank: cli.main(run), out.parent, **variables)


# -- the order of sums -----------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_sum_has_the_same_bits_whoever_adds_what(count, size, seed):
    shards = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 1e3
    whole = ranks.total(
        ((place, 1, one.clone()) for place, one in enumerate(shards)), count, shards[0]
    )
    parts = []
    for rank in range(size):
        mine = ranks._part(count, rank, size)
        own = added((place, 1, shards[place].clone()) for place in mine)
        assert [(start, n) for start, n, _ in own] == ranks._nodes(mine)
        parts += own
    assert torch.equal(ranks._whole(parts), whole)
    torch.testing.assert_close(whole, shards.sum(0), rtol=1e-4, atol=1e-2)


@given(st.integers(0, 50), st.integers(1, 9))
def test_every_part_is_somebodys(count, size):
    parts = [ranks._part(count, rank, size) for rank in range(size)]
    assert [one for part in parts for one in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# -- shards of a batch -----------------------------------------------------------------------------


def shard_generator(rows: Rows) -> ShardGenerator:
    generator = ShardGenerator()
    generator.manual_seed(5)
    generator.rows = rows
    return generator


def test_shards_are_augmented_as_in_the_whole_batch():
    transform = augment.training_transform(
        image_size=12, border=0, crop=8, crop_padding=2, crop_area=0.5, flip=True, jitter=0.3,
        lighting=0.1, axes=[0.1, 0.2, 0.3] * 3, erase=0.2, mean=(0.5,) * 3, std=(0.2,) * 3,
    )  # fmt: skip
    x = torch.randint(0, 256, (7, 3, 12, 12), dtype=torch.uint8)
    whole = transform(x, torch.Generator().manual_seed(5))
    for start, stop in ((0, 3), (3, 5), (5, 7)):
        part = transform(x[start:stop], shard_generator(Rows(start, stop, 7)))
        assert torch.equal(part, whole[start:stop])


def test_shards_of_a_batch_are_mixed_alike():
    """Each in itself, by the same rectangle."""
    x = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 8, 8)
    batches = Batches.of_arrays(x, range(12), batch_size=12)
    batches.mix, found = partial(augment.mix, 0.0, 1.0), []
    for count in (1, 3):
        batches.sharding = Sharding(count, range(count))
        [batch] = batches.shards(epoch=3)
        for shard in batch.shards:
            others = shard.x != shard.y.view(-1, 1, 1, 1)
            assert torch.equal(shard.x[others], x[shard.y.roll(1)][others])
            assert float(others.double().mean()) == pytest.approx(1 - shard.own)
            found.append(others[0].tolist())
    assert found == found[:1] * 4 and 0 < batch.shards[0].own < 1


def test_shards_drop_what_is_dropped_of_them_in_the_whole_batch():
    layer, x = Dropout(0.4), torch.rand(7, 5)
    torch.manual_seed(1)
    whole = layer(x)
    layer.rows = Rows(2, 5, 7)
    torch.manual_seed(1)
    assert torch.equal(layer(x[2:5]), whole[2:5])
    assert torch.equal(layer.eval()(x), x)


def stepped(count: int) -> tuple[nn.Module, list[float]]:
    """A network without batch normalisation after an epoch in so many shards, and its losses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), Dropout(0.3), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = np.random.default_rng(0)
    batches = Batches.of_arrays(
        data.standard_normal((50, 6)), data.integers(0, 3, 50), batch_size=13, shuffle=True
    )
    batches.sharding = Sharding(count, range(count))
    losses = []
    for step, batch in enumerate(batches.shards(0)):
        value, right = training_step(
            model, optimizer, batch, lr=0.1, loss=make_loss("cross-entropy", 0.1),
            dtype=torch.float32, clip=0.5, key=(0, 0, step),
        )  # fmt: skip
        assert right.dtype == torch.int64 and right.ndim == value.ndim == 0
        losses.append(float(value))
    return model, losses


def test_shards_only_change_the_order_of_sums():
    whole, losses = stepped(1)
    parted, the_same = stepped(3)
    assert losses == pytest.approx(the_same, rel=1e-5)
    for one, other in zip(whole.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_batch_normalisation_remembers_the_mean_over_shards():
    def norm(count):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
        batches = Batches.of_arrays(torch.randn(9, 2), [0, 1] * 4 + [1], batch_size=9)
        batches.sharding = Sharding(count, range(count))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        [batch] = batches.shards(0)
        training_step(
            model, optimizer, batch, lr=0.0, loss=make_loss("cross-entropy", 0.0),
            dtype=torch.float32, clip=0.0, key=(0, 0, 0),
        )  # fmt: skip
        return model[0], batch

    layer, batch = norm(2)
    means = [shard.x.mean(0) * (shard.rows.stop - shard.rows.start) / 9 for shard in batch.shards]
    torch.testing.assert_close(layer.running_mean, 0.1 * sum(means))
    assert layer.num_batches_tracked == 1


def with_normalisation(count: int, sync_norm: bool) -> tuple[nn.Module, list[float]]:
    """A network after two epochs in so many shards, of which the last ones are smaller."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), BatchNorm2d(5), nn.ReLU(), nn.Flatten(), Dropout(0.2),
        BatchNorm1d(80), nn.Linear(80, 3),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = np.random.default_rng(0)
    x = data.standard_normal((31, 3, 6, 6)).astype(np.float32) + 3
    batches = Batches.of_arrays(x, data.integers(0, 3, 31), batch_size=16, shuffle=True)
    batches.sharding = Sharding(count, range(count), sync_norm=sync_norm)
    losses = []
    for epoch in range(2):
        for step, batch in enumerate(batches.shards(epoch)):
            value, _ = training_step(
                model, optimizer, batch, lr=0.1, loss=make_loss("cross-entropy", 0.1),
                dtype=torch.float32, clip=0.0, key=(0, epoch, step),
            )  # fmt: skip
            losses.append(float(value))
    return model, losses


def test_synchronised_normalisation_is_that_of_the_whole_batch():
    whole, losses = with_normalisation(1, sync_norm=False)
    assert with_normalisation(3, sync_norm=False)[1] != pytest.approx(losses, rel=1e-3)
    for count in (1, 3, 5):  # more than there are threads, too
        parted, the_same = with_normalisation(count, sync_norm=True)
        assert the_same == pytest.approx(losses, rel=1e-4)
        for name, value in whole.state_dict().items():
            other = parted.state_dict()[name]
            torch.testing.assert_close(other, value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("where", ["in a shard", "between the ranks"])
def test_a_shard_that_fails_is_not_waited_for(where, monkeypatch):
    meeting, ends = Meeting(Sharding(2, range(2))), []

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError(where)

    def call(place):
        try:
            with meeting.or_nobody():
                if place and where == "in a shard":
                    fail()
                meeting.total(place, torch.ones(1))
        except ZeroDivisionError as error:
            ends.append(str(error))

    if where == "between the ranks":
        monkeypatch.setattr(ranks, "total", fail)
    list(at_once(call, range(2), threads=2))
    assert ends == [where] * 2


def test_too_few_examples_for_the_shards():
    with pytest.raises(RecipeError, match=r"20 training images in batches of 6 are 5 .* 3 shards"):
        Batches(
            Batches.of_arrays(np.zeros((20, 2)), [0] * 20, batch_size=6).stores[0],
            np.arange(20), batch_size=6, transform=None, device=torch.device("cpu"),
            sharding=Sharding(3, range(3)),
        )  # fmt: skip


# -- who -------------------------------------------------------------------------------------------


def test_alone_nothing_changes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks.launch() is None
    with ranks.joined():
        assert ranks.size() == 1 and ranks.is_first() and ranks.leave()
    assert ranks.part(3) == range(3) and not ranks.any_of(False)
    assert torch.equal(ranks.concatenated([torch.eye(2)] * 2, torch.float32)[2:], torch.eye(2))


def test_what_a_launcher_says(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert ranks.launch() == ranks.Launch(2, 4, 0, 1, may_restart=False)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(InputError, match="RANK='4', WORLD_SIZE='4'"):
        ranks.launch()


def test_one_process_for_what_needs_one(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["sweep", "digits", "--grid", "lr=0.1,0.2"]) == 2
    assert "only these can be shared" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["recipes"]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("rank 1: alexnet: 2 processes")


# -- together --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--sync-norm"]], ids=["", "sync-norm"])
def test_any_number_of_ranks_gives_the_same_bits(photos, how, tmp_path):
    runs = [RunDirectory(tmp_path / str(count)) for count in range(1, 5)]
    for count, run in enumerate(runs, 1):
        for rank, end in enumerate(trained(count, photos, run.path, "--shards", 4, *how)):
            assert end.code == 0, end.said
            assert not rank or not end.said, "only the first says something"
        assert not differing(runs[0], run)
    assert [one.name for one in runs[3].path.iterdir()] and len(runs[3].epochs()) == 3


@pytest.mark.slow
def test_a_head_and_its_fine_tuning(photos, tmp_path):
    """What is frozen runs once; of the second phase all begin with the best of the first."""
    how = "--recipe folder --image-size 32 --crop 28 --epochs 2 --warmup 0 --finetune-epochs 2 "
    how += "--finetune-lr 0.01 --shards 3 --batch-size 13 --no-report --no-tensorboard"

    def train(count: int) -> int:
        return cli.main(["train", str(photos), "--out", str(tmp_path / str(count)), *how.split()])

    assert train(1) == 0
    for end in in_ranks(3, lambda rank: train(3), tmp_path):
        assert end.code == 0, end.said
    assert not differing(RunDirectory(tmp_path / "1"), RunDirectory(tmp_path / "3"))


@pytest.mark.slow
def test_a_run_of_two_goes_on_with_one_and_with_four(photos, tmp_path, monkeypatch):
    """Stopped by a signal to one of them, in the middle of an epoch."""
    whole = tmp_path / "whole"
    trained(1, photos, whole, "--shards", 4)
    for count in (1, 4):
        out = tmp_path / f"two, then {count}"

        def first(rank: int, out: Path = out) -> int:
            if rank:
                steps = iter(range(100))

                def stopping(*given: Any, **named: Any) -> Any:
                    if next(steps) == 6:
                        os.kill(os.getpid(), signal.SIGTERM)
                    return training_step(*given, **named)

                monkeypatch.setattr("alexnet.fitting.loop.training_step", stopping)
            return cli.main(words(photos, out, "--shards", 4))

        ends = in_ranks(2, first, tmp_path)
        assert [end.code for end in ends] == [130, 130], ends
        assert "stopped in epoch 2 after step" in ends[0].said and not ends[1].said
        for end in trained(count, photos, out, "--shards", 4, "--resume"):
            assert end.code == 0, end.said
        assert not differing(RunDirectory(whole), RunDirectory(out))


@pytest.mark.slow
def test_shards_are_as_many_as_ranks_and_a_run_keeps_them(photos, tmp_path):
    for end in trained(2, photos, tmp_path / "run"):
        assert end.code == 0, end.said
    settings = RunDirectory(tmp_path / "run").settings
    assert settings.asked.shards == "auto" and settings.shards == 2
    assert settings.surroundings[0]["ranks"] == 2
    assert cli.main(["repeat", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    assert cli.main(["resume", str(tmp_path / "run"), "--epochs", "4"]) == 0
    [first, *others] = trained(3, photos, tmp_path / "run", "--epochs", 4, "--resume")
    assert first.code == 0
    assert "3 processes, but batches are cut into 2 shards" in first.said
    for end in trained(3, photos, tmp_path / "other", "--shards", 2, "--sync-norm"):
        assert end.code == 2 and (not end.said or "a shard for each process" in end.said)
    assert all(not end.said for end in others)


@pytest.mark.slow
def test_evaluation_on_three_ranks_is_that_of_one(tmp_path):
    """1,001 images: no rank's part is as large as another's, and none is counted twice."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 7))
    x, y = torch.rand(1001, 3, 4, 4), torch.arange(1001) % 7
    batches = Batches.of_arrays(x, y, batch_size=256)
    logits, labels = predict_logits(model, [batches, batches], torch.float32, "one")

    def look(rank: int) -> None:
        with ranks.joined():
            found = predict_logits(model, [batches, batches], torch.float32, "three")
            assert torch.equal(found[0], logits) and torch.equal(found[1], labels)
            few = Batches.of_arrays(x[:5], y[:5], batch_size=256)  # two ranks have nothing
            found = predict_logits(model, [few], torch.float32, "few")
            assert torch.equal(found[1], labels[:5]) and found[0].shape == (5, 7)

    for end in in_ranks(3, look, tmp_path):
        assert end.code == 0, end.said


@pytest.mark.slow
def test_features_and_figures_on_ranks_are_those_of_one(photos, tmp_path, monkeypatch, capsys):
    """Byte for byte, also where one of them died when a part was written."""
    monkeypatch.setattr("alexnet.network.frozen.CHUNK", 8)
    how = "--recipe folder --image-size 32 --crop 28 --epochs 1 --warmup 0 --no-report --shards 1"

    def train(count: int, rank: int = 0, dies_at: int = 99) -> int:
        os.environ["ALEXNET_CACHE"] = str(tmp_path / f"cache{count}")
        chunks = iter(range(99))

        def dying(*given: Any) -> Any:
            if next(chunks) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return chunk(*given)

        chunk = frozen._chunk
        monkeypatch.setattr(frozen, "_chunk", dying)
        run = ["train", str(photos), "--out", str(tmp_path / f"run{count}"), *how.split()]
        return cli.main([*run, "--resume"] if (tmp_path / f"run{count}").exists() else run)

    def features(count: int) -> dict[str, bytes]:
        files = (tmp_path / f"cache{count}" / "features").rglob("*")
        return {one.name: one.read_bytes() for one in files if one.is_file()}

    assert train(1) == 0
    assert in_ranks(3, lambda rank: train(3, rank, 99 if rank else 2), tmp_path)[0].code < 0
    assert "chunks.txt" in features(3), "something was kept"
    for end in in_ranks(3, lambda rank: train(3), tmp_path):
        assert end.code == 0, end.said
    assert features(1) and features(1) == features(3)
    evaluate = ["eval", str(tmp_path / "run1"), "--split", "all", "--format", "json"]
    capsys.readouterr()
    assert cli.main(evaluate) == 0
    one = capsys.readouterr().out
    ends = in_ranks(2, lambda rank: cli.main(evaluate), tmp_path)
    assert [end.code for end in ends] == [0, 0] and not ends[1].said
    assert ends[0].said == one


@pytest.mark.slow
def test_ranks_with_different_recipes_or_data_stop_at_the_start(photos, tmp_path):
    for number, (more, name) in enumerate(
        [(["--lr", "0.07"], "lr: 0.05 and 0.07"), (["--fraction", "0.5"], "fraction: 1.0 and 0.5")]
    ):
        out = tmp_path / f"out{number}"

        def train(rank: int, more: list[str] = more, out: Path = out) -> int:
            return cli.main(words(photos, out, "--lr", "0.05", *(more if rank == 1 else [])))

        ends = in_ranks(3, train, tmp_path)
        assert [end.code for end in ends] == [2, 2, 2], ends
        assert f"rank 0 and rank 1 differ in {name}" in ends[0].said
        assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "more"), [("dies", []), ("hangs", []), ("fails", []), ("dies", ["--sync-norm"])]
)
def test_a_rank_that_dies_hangs_or_fails_is_named(photos, tmp_path, monkeypatch, how, more):
    monkeypatch.setattr(ranks, "WAIT", 4.0)

    def train(rank: int) -> int:
        steps = iter(range(100))

        def stopping(*given: Any, **named: Any) -> Any:
            if rank == 1 and next(steps) == 4:
                if how == "fails":
                    raise RecipeError("something only here.")
                os.kill(os.getpid(), signal.SIGKILL) if how == "dies" else time.sleep(12)
            return training_step(*given, **named)

        monkeypatch.setattr("alexnet.fitting.loop.training_step", stopping)
        return cli.main(words(photos, tmp_path / "out", *more))

    ends = in_ranks(3, train, tmp_path)
    assert [ends[0].code, ends[2].code] == ([2, 2] if how == "fails" else [1, 1])
    told = {
        "dies": "rank 1 has died",
        "hangs": "rank 1 has not come to where",
        "fails": "rank 1 stopped: something only here.",
    }
    assert told[how] in ends[0].said and "Traceback" not in ends[0].said
    if how == "fails":
        assert ends[1].code == 2 and "rank 1: alexnet: something only here." in ends[1].said


@pytest.mark.slow
def test_a_port_in_use(photos, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        [end] = ended(
            started(1, lambda rank: cli.main(words(photos, tmp_path / "out")), tmp_path,
                    WORLD_SIZE="2", MASTER_PORT=port),
            tmp_path,
        )  # fmt: skip
    assert end.code == 2 and f"the port of 127.0.0.1:{port} is in use" in end.said


@pytest.mark.slow
def test_the_short_form(photos, tmp_path):
    run = [sys.executable, "-m", "alexnet", *words(photos, tmp_path / "run", "--nproc", 2)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "run"), done.stderr
    assert "Traceback" not in done.stderr and RunDirectory(tmp_path / "run").evaluated
    again = [sys.executable, "-m", "alexnet", "resume", str(tmp_path / "run"), "--nproc", "3"]
    done = subprocess.run([*again, "--epochs", "4"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len(RunDirectory(tmp_path / "run").epochs()) == 4, done.stderr
    done = subprocess.run([*run, "--resume", "--lr", "9"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "was trained with another recipe" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_torchrun_starts_all_again(photos, tmp_path):
    """In a small form what tests/long/rank_kills.py does."""
    run, how = tmp_path / "run", ["--shards", 2, "--epochs", 40]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", "--max-restarts", "1", "-m", "alexnet", *words(photos, run, *how)]
    agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (run / "last.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.02)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    said = agent.communicate(timeout=100)[1]
    assert agent.returncode == 0 and f"going on with {run} after epoch" in said
    trained(1, photos, tmp_path / "whole", *how)
    assert not differing(RunDirectory(tmp_path / "whole"), RunDirectory(run))
