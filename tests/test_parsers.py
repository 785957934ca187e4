"""Whatever a parser is given: it reads it, or raises an error that it documents. Each test is of a
kind that the long form (long/fuzz_parsers.py) brought to light."""

import dataclasses
import io
import json
import math
import tarfile
import time
from typing import Any

import numpy as np
import pytest
import torch
from makers import SMALL, TINY, encoded, network_of, noise, run_directory, store_of

import alexnet
from alexnet.atomic import read_arrays
from alexnet.data.datasets import open_data, read_index
from alexnet.data.finding import read_source
from alexnet.data.layouts import distinct
from alexnet.data.store import Store
from alexnet.errors import DataError, RecipeError, RunError, WeightsError
from alexnet.fitting.loop import State
from alexnet.network.checkpoint import (
    load_model,
    load_tensors,
    restore_optimizer,
    save_network,
    save_tensors,
)
from alexnet.network.description import Architecture, Preprocessing
from alexnet.network.weights import BVLC_LAYERS, import_weights, read_foreign, read_pth, recognise
from alexnet.recipes import Recipe
from alexnet.runs.directory import RunDirectory
from alexnet.sweeping.directory import SweepDirectory

DEEP = "[" * 100_000 + "]" * 100_000


def as_json(value):
    """As it comes back from a file."""
    return json.loads(json.dumps(value))


@pytest.mark.slow
def test_thousands_of_damaged_inputs(monkeypatch):
    from long import fuzz_parsers
    from long.fuzz_parsers import fuzz, shared

    monkeypatch.setattr(fuzz_parsers, "MOST_SECONDS", 60.0)  # tests may run on a busy machine
    for name, found in fuzz(shared(6_000), seed=1, jobs=0).items():
        assert not found.broken, f"{name}: {found.broken}"
        assert found.outcomes["read"] or found.outcomes.total() < 100, name


# -- JSON


@pytest.mark.parametrize(
    "name, read",
    [
        ("metrics.json", RunDirectory.metrics),
        ("epochs.jsonl", RunDirectory.epochs),
        ("recipe.json", lambda run: run.settings),
        ("lr.json", RunDirectory.suggested_lr),
        ("sweep.json", lambda run: SweepDirectory(run.path).definition()),
    ],
)
def test_nesting_that_is_too_deep_is_damage(name, read, tmp_path):
    run = RunDirectory(run_directory(tmp_path / "run"))
    (run.path / name).write_text(DEEP)
    with pytest.raises(RunError, match="nested too deeply"):
        read(run)


def test_a_description_that_is_nested_too_deeply_is_damage(tmp_path):
    path = tmp_path / "a.safetensors"
    head = json.dumps({"__metadata__": {"alexnet": DEEP}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(WeightsError, match="no description"):
        load_tensors(path)
    path.write_bytes(b"\xff" * 8 + head)  # a length that no file has
    with pytest.raises(WeightsError, match="cannot be read"):
        load_tensors(path)


@pytest.mark.parametrize("text", ["[]", "7", DEEP, '{"stores": []}', '{"stores": {"64": 7}}', "{"])
def test_an_index_that_is_damaged_is_none(text, tmp_path):
    (tmp_path / "index.json").write_text(text)
    assert read_index(tmp_path / "index.json") == {}


@pytest.mark.parametrize("value", [10**400, 1e300, -(2**64), math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("field", ["lr", "epochs", "image_size", "finetune_lr"])
def test_numbers_that_nobody_computes_with(field, value):
    with pytest.raises(RecipeError, match=f"{field} is .*, expected"):
        Recipe(**{field: value})


@pytest.mark.parametrize("value", ["1e400", "NaN", "Infinity", "9" * 400])
def test_figures_that_are_no_numbers(value, tmp_path):
    run = RunDirectory(run_directory(tmp_path / "run"))
    path = run.path / "metrics.json"
    known = json.loads(path.read_text())
    for key in ("n", "top1", "nll", "chance"):
        path.write_text(json.dumps(known | {key: json.loads(value)}))
        with pytest.raises(RunError, match="is no number"):
            run.metrics()
    (run.path / "epochs.jsonl").write_text(f'{{"epoch": 1, "val_loss": {value}}}\n')
    assert run.epochs() == [{"epoch": 1}]
    (run.path / "lr.json").write_text(f'{{"lr": {value}}}')
    with pytest.raises(RunError, match="is no learning rate"):
        run.suggested_lr()


def test_a_sweep_over_nothing(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"recipe": TINY.to_dict()}))
    with pytest.raises(RunError, match="cannot be used"):
        SweepDirectory(tmp_path).definition()


# -- networks


@pytest.mark.parametrize(
    "changes",
    [
        {"convs": []}, {"convs": 3}, {"convs": [{"channels": 3}]}, {"norm": "soft"}, {"hidden": 7},
        {"convs": [{"channels": 3, "kernel": 3, "groups": 2}]}, {"pool": None}, {"map_side": 0},
        {"convs": [{"channels": 2**40, "kernel": 3}]}, {"hidden": [True]}, {"dropout": 2},
        {"convs": [{"channels": 8, "kernel": 3, "padding": 2000}]}, {"width": 1}, {"lrn_k": None},
    ],
)  # fmt: skip
def test_descriptions_of_no_network(changes):
    fields = as_json(SMALL.to_dict())
    assert Architecture.from_dict(fields) == SMALL
    with pytest.raises(ValueError):
        Architecture.from_dict(fields | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 0}, {"image_size": 10**9}, {"image_size": "64"}, {"crop": 65}, {"mean": []},
        {"std": [1, 1, 0]}, {"std": [1, math.inf, 1]}, {"views": 3}, {"views": 10}, {"range": -1},
        {"mean": 0.5}, {"more": 1},
    ],
)  # fmt: skip
def test_descriptions_of_no_preprocessing(changes):
    how = Preprocessing(64, 64, (0.5,) * 3, (0.25,) * 3)
    fields = as_json(how.to_dict())
    assert Preprocessing.from_dict(fields) == how
    with pytest.raises(ValueError):
        Preprocessing.from_dict(fields | changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden": (65_536, 65_536, 65_536)}, "do not fit"),  # 34 GB, were they asked for
        ({"classes": "cat"}, "no names"),
        ({"classes": ["a", "b"]}, "2 classes have 3 names"),
        ({"crop": 2, "image_size": 2}, "of 2 px the network leaves nothing"),
        ({"crop": 99}, "does not fit"),
    ],
)
def test_a_file_of_weights_whose_description_is_of_another_network(changes, message, tmp_path):
    network = network_of(tmp_path / "a.safetensors", SMALL, 3)
    about = {"classes": network.classes, "names": network.names}
    about["architecture"] = network.architecture.to_dict()
    about["preprocessing"] = network.preprocessing.to_dict()
    for key, value in changes.items():
        inner = [one for one in about.values() if isinstance(one, dict) and key in one]
        (inner[0] if inner else about)[key] = value
    save_tensors(tmp_path / "b.safetensors", network.tensors, about)
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path / "b.safetensors")


def test_whole_numbers_are_no_weights(tmp_path):
    network = network_of(tmp_path / "a.safetensors", SMALL, 3)
    name = next(iter(network.tensors))
    wrong = network.tensors | {name: network.tensors[name].view(torch.int32)}
    save_network(tmp_path / "b.safetensors", dataclasses.replace(network, tensors=wrong))
    with pytest.raises(WeightsError, match=r"is of torch\.int32, expected torch\.float32"):
        load_model(tmp_path / "b.safetensors")


def test_a_network_that_gives_no_numbers_is_not_believed(tmp_path):
    network = network_of(tmp_path / "a.safetensors", SMALL, 3)
    network.tensors["classifier.1.weight"][0] = math.nan
    save_network(tmp_path / "a.safetensors", network)
    with pytest.raises(WeightsError, match="what is no number"):
        alexnet.load(tmp_path / "a.safetensors").predict([np.zeros((70, 70, 3), np.uint8)])


@pytest.mark.parametrize("part", ["history", "optimizer", "phase"])
def test_a_state_that_is_incomplete(part, tmp_path):
    model = torch.nn.Linear(3, 2)
    state = State(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    path = tmp_path / "last.safetensors"
    state.save(path)
    tensors, about = load_tensors(path)
    state.load(path)
    for wrong in ([{"epoch": "x"}], None, {"a": 1}):
        save_tensors(path, tensors, about | {part: wrong, "crc32": "0" * 8})
        with pytest.raises(WeightsError, match="its state is incomplete"):
            state.load(path)
    with pytest.raises(ValueError, match="momentum_buffer of parameter 0"):
        restore_optimizer(state.optimizer, {"0.momentum_buffer": torch.zeros(2, 2)}, {})


def test_state_dicts_that_are_programs_for_another_machine(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        changed = bytearray(content)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        try:
            assert read_pth(path)
        except WeightsError as error:
            assert error.hint
    huge = torch.zeros(()).expand(10**7, 10**7)  # 400 TB, in a file of a kilobyte
    for odd, message in (
        (huge, "of no network"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(3, device="meta"), "without values"),
    ):
        torch.save({"features.0.weight": odd}, path)
        with pytest.raises(WeightsError, match=message):
            read_foreign(path)
    with pytest.raises(WeightsError, match="of no network"):
        recognise({"classifier.6.weight": torch.zeros(())}, "a.pth")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about | {"classes": "cat"},
        lambda about: about | {"names": [1, 2, 3]},
        lambda about: about | {"preprocessing": about["preprocessing"] | {"image_size": 1e400}},
        lambda about: about | {"preprocessing": about["preprocessing"] | {"image_size": -3}},
        lambda about: about | {"preprocessing": []},
        lambda about: DEEP,
    ],
)
def test_an_exported_file_whose_description_is_damaged(change, tmp_path, capfd):
    import onnx

    from alexnet.exporting.onnx_graph import whole_graph

    network = network_of(tmp_path / "a.safetensors", SMALL, 3)
    model, how = load_model(network.path).model, network.preprocessing
    about = {"version": 1, "classes": network.classes, "names": network.names}
    about["preprocessing"] = how.to_dict()
    graph = whole_graph(model, how, json.dumps(about), int8=False)
    path = tmp_path / "a.onnx"
    path.write_bytes(graph.SerializeToString())
    assert alexnet.load(path).classes == network.classes
    changed = change(about)
    del graph.metadata_props[:]
    words = changed if isinstance(changed, str) else json.dumps(changed)
    onnx.helper.set_model_props(graph, {"alexnet": words})
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(WeightsError, match="missing or damaged"):
        alexnet.load(path)
    # a name that is no text: onnxruntime would say on standard output that it tries once more
    path.write_bytes(path.read_bytes().replace(b"images", b"\xff\xfeages"))
    with pytest.raises(WeightsError):
        alexnet.load(path)
    assert capfd.readouterr() == ("", "")


# -- arrays and Stores


@pytest.mark.parametrize(
    "changes",
    [
        {"logits": np.zeros(6, np.float32)}, {"logits": np.zeros((6, 3), np.complex64)},
        {"labels": np.zeros((6, 2), np.int64)}, {"labels": np.full(6, math.nan)},
        {"ids": np.zeros(6)}, {"classes": np.array([["a"], ["b"], ["c"]])}, {"classes": None},
    ],
)  # fmt: skip
def test_predictions_of_another_kind(changes, tmp_path):
    run = RunDirectory(run_directory(tmp_path / "run", n=6))
    path = run.path / "predictions.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    assert len(run.predictions().labels) == 6
    np.savez(path, **{n: one for n, one in (arrays | changes).items() if one is not None})
    with pytest.raises(RunError, match=r"predictions\.npz is damaged"):
        run.predictions()


def test_arrays_are_read_by_name_alone(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3), b=np.array([{}], dtype=object))
    assert set(read_arrays(tmp_path / "a.npz", ["a", "c"])) == {"a"}
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz", ["b"])


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "O"}, {"dtype": None}, {"dtype": "V1"}, {"shape": [4.0, 3, 2, 2]}, {"shape": {}},
        {"shape": [0, 3, 2, 2]}, {"splits": {"train": [0, 10**12]}}, {"splits": [1]}, {"block": 0},
        {"names": ["a"]}, {"sha256": []}, {"bad": [{"id": "a"}]}, {"left_out": "a"},
        {"fingerprint": None}, {"classes": 3}, {"block": 1}, {"block": 2**70},
        {"shape": [1] * 70}, {"shape": [2**31, "text that many times"]},
    ],
)  # fmt: skip
def test_stores_without_a_checksum_of_their_own_are_looked_at(changes, tmp_path):
    store = store_of(tmp_path, {"train": [0, 1], "test": [0, 1]})
    about = {key: one for key, one in store.info.items() if key != "crc32"}
    (store.path / "store.json").write_text(json.dumps(about))
    assert len(Store.open(store.path).y) == 4  # as of 0.1.0
    (store.path / "store.json").write_text(json.dumps(about | changes))
    with pytest.raises(DataError, match=r"is not a Store|is damaged"):
        Store.open(store.path)


@pytest.mark.parametrize("key", ["classes", "names", "splits", "sha256", "fingerprint"])
def test_what_a_store_does_not_say(key, tmp_path):
    store = store_of(tmp_path, {"train": [0, 1], "test": [0, 1]})
    about = {one: store.info[one] for one in store.info if one not in (key, "crc32", "block")}
    (store.path / "store.json").write_text(json.dumps(about))
    opened = Store.open(store.path)
    with pytest.raises(DataError, match=f"it has no '{key}'"):
        _ = (opened.classes, opened.names, opened.split("train"), opened.y, opened.fingerprint)


@pytest.mark.parametrize("key", ["left_out", "bad"])
def test_what_a_store_given_as_data_does_not_say(key, tmp_path):
    store = store_of(tmp_path, {"train": [0, 1], "test": [0, 1]})
    about = {"left_out": [], "bad": []} | store.info
    about = {one: about[one] for one in about if one not in (key, "crc32", "block")}
    (store.path / "store.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=f"it has no '{key}'"):
        open_data(store.path, image_size=store.x.shape[-1])


# -- archives


def tar_of(path, *blocks):
    """A tar of whole headers and contents."""
    padded = [block + bytes(-len(block) % 512) for block in blocks]
    path.write_bytes(b"".join(padded) + bytes(1024))
    return path


def header(name, size, kind=b"0"):
    """Of a member, as tarfile writes it; of a negative size as GNU would."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    number = (256**11 + size).to_bytes(11, "big") if size < 0 else b"%011o" % size
    block[124:136] = b"\xff" + number if size < 0 else number + b"\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("extra", [b"7" * 600_000, b"2 " * 300_000 + b"=", b"2 path=a" * 60_000])
def test_headers_that_take_tarfile_hours(extra, tmp_path):
    picture = encoded(noise())
    member = header("cat/1.png", len(picture)), picture
    path = tar_of(tmp_path / "a.tar", header("x", len(extra), b"x"), extra, *member)
    began = time.process_time()
    with pytest.raises(DataError):
        read_source(path)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("sizes", [(0, 0, -1024), (0, -512), (0, -1)])
def test_a_tar_that_leads_back_ends(sizes, tmp_path):
    members = [header(f"cat/{n}.png", size) for n, size in enumerate(sizes)]
    with pytest.raises(DataError, match="leads back"):
        read_source(tar_of(tmp_path / "a.tar", *members))


def test_an_archive_in_several_parts(tmp_path):
    end = b"PK\6\7" + bytes(12) + b"\2\0\0\0" + b"PK\5\6" + bytes(18)
    for name in ("a.zip", "a.bin"):
        (tmp_path / name).write_bytes(bytes(60) + end)
        with pytest.raises(DataError, match="multiple disks"):
            read_source(tmp_path / name)
    run = RunDirectory(run_directory(tmp_path / "run"))
    (run.path / "predictions.npz").write_bytes(bytes(60) + end)
    with pytest.raises(RunError, match="multiple disks"):
        run.predictions()


@pytest.mark.slow
def test_a_long_chain_of_links_is_followed_once(tmp_path):
    picture, count = encoded(noise()), 20_000
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"cat/{number:05}.png")
            member.type, member.linkname = tarfile.SYMTYPE, f"{number + 1:05}.png"
            archive.addfile(member)
        for name in (f"cat/{count:05}.png", "dog/1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))
    began = time.process_time()
    source = read_source(tmp_path / "a.tar")
    assert time.process_time() - began < 15
    assert len(source.examples) == count + 2
    assert next(source.contents()) == picture


def test_many_classes_are_named_in_no_time():
    names = [f"class {number // 2}" for number in range(60_000)]
    began = time.process_time()
    assert len(set(distinct(names, [str(number) for number in range(60_000)]))) == 60_000
    assert time.process_time() - began < 5


def test_arrays_without_dimensions_are_no_layers(tmp_path):
    names = [f"{name}_{part}" for name in BVLC_LAYERS for part in "wb"]
    arrays: dict[str, Any] = dict.fromkeys(names, np.float32(1))
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(WeightsError, match=r"conv1_w|features\.0"):
        import_weights(tmp_path / "a.npz", "flat")
