"""Gives every parser inputs with damaged structure and bytes: it reads them, or raises an error
that it documents; in less than 2 s and 500 MB, whatever came before; with the input as it was.

uv run python tests/long/fuzz_parsers.py --count 1000000 [--seed 0] [--only KIND] [--jobs 2]

SHARES says how many of a thousand inputs are of which kind; the dear ones (a session of
onnxruntime, a whole page) have few. `--only KIND --first N --count 1` makes input N of a kind
again, and shows its traceback. The short form is a test (tests/test_parsers.py).
"""

import argparse
import asyncio
import contextlib
import faulthandler
import io
import itertools
import json
import logging
import os
import pickle
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from long import mutations  # noqa: E402
from long.fuzz_http import SEEDS, Errors, documented, mutated  # noqa: E402
from long.fuzz_images import damaged, peak  # noqa: E402
from makers import Colours, network_of, run_directory, store_of  # noqa: E402

from alexnet import errors, recipes  # noqa: E402
from alexnet.atomic import checksum, sealed  # noqa: E402
from alexnet.classification.onnx_classifier import OnnxClassifier  # noqa: E402
from alexnet.classification.run_classifier import RunClassifier  # noqa: E402
from alexnet.data import datasets, tables, trees  # noqa: E402
from alexnet.data.layouts import read_tree  # noqa: E402
from alexnet.data.names import member_paths  # noqa: E402
from alexnet.data.reading import Reading  # noqa: E402
from alexnet.data.store import Store  # noqa: E402
from alexnet.fitting.loop import Epoch, State  # noqa: E402
from alexnet.network import checkpoint, description, header, weights  # noqa: E402
from alexnet.network.model import outline  # noqa: E402
from alexnet.reporting import illustrations, report  # noqa: E402
from alexnet.runs.calibration import distances  # noqa: E402
from alexnet.runs.directory import RunDirectory  # noqa: E402
from alexnet.sweeping.directory import SweepDirectory  # noqa: E402

MOST_SECONDS, MOST_BYTES = 2.0, 500e6
HANGING = 400.0  # seconds for a hundred inputs after which the process ends, and says where it was
PORTION = 1_000  # inputs that a process is given at a time
SHARES = {  # of a thousand
    "tree": 20, "table": 10, "arrays": 10, "zip": 170, "tar": 150, "layout": 130,
    "annotations": 120, "recipe": 130, "figures": 90, "sweep": 34, "index": 30, "weights": 10,
    "state": 10, "foreign": 10, "predictions": 30, "calibration": 10, "store": 20,
    "http": 15, "onnx": 0.9, "page": 0.1,
}  # fmt: skip


class Kind(ABC):
    """A kind of input: files by their paths, and the door that reads them."""

    documented: tuple[type[Exception], ...] = (errors.DataError,)
    base = 0  # bytes that the process had taken before the first input

    def __init__(self, folder):  # noqa: B027 few kinds make anything
        """Whatever is made once, in a folder of its own."""

    @abstractmethod
    def files(self, draw):
        """{path: content} of one input."""

    @abstractmethod
    def read(self, folder):
        """Reads the files in a folder.

        Raises:
            AlexNetError: one of those documented. AssertionError: what was read is nonsense.
        """

    def close(self):  # noqa: B027 few kinds need it
        """Afterwards."""


# -- sources of images


class Link(bytes):
    """What a symbolic link leads to."""


class Memory:
    """A tree whose files are held in memory."""

    def __init__(self, files):
        self.where = Path("memory")
        paths, _ = member_paths(list(files), "latin-1")
        self.entries = {path: one for path, one in zip(paths, files.values(), strict=True) if path}
        self.outputs, self.left_out, self.notes = {}, [], []

    def files(self):
        return sorted(self.entries)

    def has(self, path):
        return path in self.entries

    def folders(self):
        return set()

    def read(self, path):
        return self.entries[path]

    def open(self, path):
        return io.BytesIO(self.entries[path])


def look_at(source):
    """What a source promises, and its first images."""
    assert len(source.names) == len(set(source.names)) == len(source.classes) > 0
    assert len(set(source.classes)) == len(source.classes)
    assert {one.label for one in source.examples} <= set(range(len(source.classes)))
    assert len({one.id for one in source.examples}) == len(source.examples) > 0
    for found in itertools.islice(source.contents(), 40):
        assert isinstance(found, bytes | OSError | np.ndarray)


class Tree(Kind):
    """A folder on disk, with links in it."""

    def files(self, draw):
        files = mutations.tree(draw)
        if draw.random() < 0.1:
            targets = [os.path.basename(path) for path in files] + [b".", b"cat", b"nowhere"]
            files |= {b"cat/" + one: Link(draw.choice(targets)) for one in (b"l", b"m.png")}
        return files

    def read(self, folder):
        trees.source_state(folder)
        look_at(read_tree(trees.open_tree(folder, folder), sum(folder.name.encode()) % 3))


class Zip(Kind):
    """A zip archive."""

    make, name = staticmethod(mutations.zip_file), b"a.zip"

    def files(self, draw):
        content = self.make(mutations.tree(draw), draw)
        return {self.name: mutations.perhaps_damaged(content, draw)}

    def read(self, folder):
        path = folder / os.fsdecode(self.name)
        look_at(read_tree(trees.open_tree(path, folder.parent / "space")))


class Tar(Zip):
    """A tar archive, perhaps compressed."""

    make, name = staticmethod(mutations.tar_file), b"a.tar"


class Layout(Kind):
    """Names of files, in every arrangement."""

    known = mutations.TREES

    def files(self, draw):
        return {b"tree": mutations.tree(draw, self.known), b"levels": draw.choice([0, 0, 0, 1, 2])}

    def read(self, given):
        look_at(read_tree(Memory(given[b"tree"]), given[b"levels"]))


class Table(Kind):
    """A table of labels beside its images: separated values, JSON lines, Parquet."""

    names = ("t.csv", "t.tsv", "t.jsonl", "t.parquet")

    def __init__(self, folder):
        images = [f"{one}/{number}.png" for one in ("cat", "dog") for number in range(4)]
        splits = ["train", "val", "test", "train"] * 2
        self.rows = [
            {"path": path, "label": path[:3], "split": split, "film": path[4]}
            for path, split in zip(images, splits, strict=True)
        ]
        self.images = {path.encode(): b"" for path in images}
        self.parquet = b"PAR1"
        with contextlib.suppress(ImportError):
            import pyarrow
            from pyarrow import parquet

            whole = io.BytesIO()
            parquet.write_table(pyarrow.Table.from_pylist(self.rows), whole)
            self.parquet = whole.getvalue()

    def files(self, draw):
        name = draw.choice(self.names)
        keys = draw.choice([["path", "label"], ["path", "label", "split", "film"]])
        if name == "t.parquet":
            table = damaged([self.parquet], draw)
        elif name == "t.jsonl":
            lines = [json.dumps({key: row[key] for key in keys}) for row in self.rows]
            table = mutations.text("\n".join(lines).encode(), draw)
        else:
            lines = ["\t".join(keys), *("\t".join(row[key] for key in keys) for row in self.rows)]
            table = mutations.text("\n".join(lines[draw.random() < 0.1 :]).encode(), draw)
            table = table.replace(
                b"\t", draw.choice([b",", b";", b"\t"]) if "csv" in name else b"\t"
            )
        if draw.random() < 0.1:
            table = draw.choice([b"\xef\xbb\xbf" + table, table.decode("latin-1").encode("utf-16")])
        return {**self.images, name.encode(): mutations.perhaps_damaged(table, draw, 0.1)}

    def read(self, folder):
        [table] = [folder / name for name in self.names if (folder / name).exists()]
        group = "film" if sum(folder.name.encode()) % 2 else ""
        for reading in (Reading(), Reading(label_column="label", group=group)):
            source, state = tables.table_file(table, reading, folder)
            assert state
            look_at(source)


class Arrays(Kind):
    """Images that lie together: .npz, idx, CIFAR's pickles and records."""

    def __init__(self, folder):
        grey, labels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4), np.arange(8) % 2
        packed = io.BytesIO()
        np.savez(packed, x_train=grey, y_train=labels, class_names=np.array(["a", "b"]))
        rows = np.zeros((8, 3072), np.uint8)
        batch = {"data": rows, "labels": labels.tolist()}
        hundred = {"data": rows, "fine_labels": labels.tolist()}
        self.known = [
            {"a.npz": packed.getvalue()},
            {
                "train-images-idx3-ubyte": b"\0\0\x08\x03" + b"\0\0\0\x08" + b"\0\0\0\x04" * 2
                + grey.tobytes(),
                "train-labels-idx1-ubyte": b"\0\0\x08\x01\0\0\0\x08" + bytes(labels.tolist()),
            },
            *(
                {
                    "data_batch_1": pickle.dumps(batch, protocol=protocol),
                    "batches.meta": pickle.dumps({"label_names": ["a", "b"]}, protocol=protocol),
                }
                for protocol in (0, 2, 5)
            ),
            {
                "train": pickle.dumps(hundred),
                "test": pickle.dumps(hundred),
                "meta": pickle.dumps({"fine_label_names": ["a", "b"]}),
            },
            {
                "train.bin": bytes(2 * 3074),
                "fine_label_names.txt": b"a\nb",
            },
        ]  # fmt: skip

    def files(self, draw):
        found = {name.encode(): content for name, content in draw.choice(self.known).items()}
        name = draw.choice(list(found))
        return found | {name: damaged([found[name]], draw)}

    def read(self, folder):
        npz = folder / "a.npz"
        place = npz if npz.exists() else folder
        look_at(read_tree(trees.open_tree(place, folder)))


class Annotations(Layout):
    """Tiny ImageNet's texts and CIFAR-10's records."""

    known = [mutations.TINY, mutations.TINY, mutations.CIFAR]

    def files(self, draw):
        files = dict(draw.choice(self.known))
        for _ in range(draw.choice([1, 2])):
            path = draw.choice([path for path in files if path.endswith((b".txt", b".bin"))])
            change = mutations.text if path.endswith(b".txt") else lambda one, d: damaged([one], d)
            files[path] = change(files[path], draw)
        return {b"tree": files, b"levels": 0}


# -- what alexnet wrote itself


class Recipes(Kind):
    """recipe.json and environment.json of a run, and recipes from Python."""

    documented = (errors.RunError, errors.RecipeError)
    names = ("recipe.json", "environment.json")

    def __init__(self, folder):
        run_directory(folder / "old")
        run_directory(folder / "new")
        self.known = []
        for name in ("old", "new"):
            found = {one: json.loads((folder / name / one).read_text()) for one in self.names}
            self.known.append(found)
        asked = recipes.Recipe()
        done = {"model": "small", "conv_layers": 5, "fc_layers": 1, "hidden": 0, "map_side": 1}
        done |= {"width": 1.0, "columns": 1, "norm": "batch", "fc_norm": "none", "pool": "max"}
        done |= {"activation": "relu", "image_size": 64, "crop": 64, "precision": "fp32"}
        done |= {"mean": [0.5] * 3, "std": [0.5] * 3}
        whole = recipes.Resolved.from_dict(asked.to_dict() | done).to_dict()
        self.known[1]["recipe.json"] |= {"recipe": whole, "asked": asked.to_dict()}
        self.known[1]["environment.json"] |= {"went_on": [self.known[0]["environment.json"]]}

    def files(self, draw):
        known = draw.choice(self.known)
        changed = draw.choice([(1, 0), (1, 0), (1, 0), (0, 1), (1, 1)])
        return {
            name.encode(): mutations.json_text(known[name], draw, (1, 1, 2, 4) if here else (0,))
            for name, here in zip(self.names, changed, strict=True)
        }

    def read(self, folder):
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            fields = json.loads((folder / self.names[0]).read_bytes())["recipe"]
            if isinstance(fields, dict):
                with contextlib.suppress(errors.RecipeError):
                    recipes.Recipe.from_dict(fields).digest  # noqa: B018
        settings = RunDirectory(folder).settings
        for text in (settings.fingerprint, settings.command, settings.weights_sha256):
            assert isinstance(text, str)
        assert settings.draw and settings.recipe.digest
        json.dumps(settings.recipe.to_dict(), allow_nan=False)


class Figures(Kind):
    """The other texts of a run: figures, epochs, a suggested rate, pictures, the data's state."""

    documented = (errors.RunError,)

    def __init__(self, folder):
        run = run_directory(folder / "run", n=12)
        self.metrics = json.loads((run / "metrics.json").read_text())
        self.epochs = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
        uri = "data:image/png;base64,AAAA"
        picture = {"id": "a", "image": uri, "label": "cat", "guess": "dog", "p": 0.5, "cam": uri}
        picture |= {"p_label": 0.1, "distance": 1.5, "neighbours": [picture.copy()]}
        self.pictures: dict[str, Any] = {one: [picture] for one in ("samples", "mistakes")}
        self.pictures["confusions"] = [{"label": "a", "guess": "b", "count": 2, "images": [uri]}]
        self.pictures |= {"filters": uri, "units": [{"layer": "a", "unit": 1, "images": [uri]}]}
        twins = {"ids": ["a", "b"], "splits": ["train", "test"], "images": [uri], "distance": 0.1}
        counts = {"exact": 1, "near": 2, "across_splits": 1, "examples": [twins]}
        self.state = {"classes": {"cat": {"train": 3}}, "image_size": 64, "greyscale": 1}
        self.state |= {"left_out": 0, "blank": ["a"], "duplicates": counts, "leaks": ["b"]}
        self.state["sizes"] = {"width": [1, 2, 3], "height": [1, 2, 3]}

    def files(self, draw):
        known = {
            "metrics.json": self.metrics, "test.json": self.metrics, "lr.json": {"lr": 0.1},
            "failed.json": {"reason": "x"}, "illustrations.json": self.pictures,
            "data.json": self.state,
        }  # fmt: skip
        texts = {
            name.encode(): mutations.json_text(value, draw, (0, 0, 1, 2, 4))
            for name, value in known.items()
        }
        rows = [mutations.json_text(one, draw, (0, 0, 1)) for one in self.epochs]
        return texts | {b"epochs.jsonl": b"\n".join(one.replace(b"\n", b"") for one in rows)}

    def read(self, folder):
        run, album = RunDirectory(folder), illustrations.Album(10_000)
        illustrations.read_illustrations(run, album)
        illustrations.read_data_state(run, album)
        assert isinstance(run.failure(), str)
        raised = None
        for one in (run.epochs, run.suggested_lr, run.test, run.metrics):
            try:
                one()
            except errors.RunError as error:
                raised = error
        if raised:
            raise raised


class Page(Figures):
    """A whole page about a run."""

    documented = (errors.RunError,)

    def __init__(self, folder):
        super().__init__(folder)
        self.run = {one.name: one.read_bytes() for one in (folder / "run").iterdir()}
        self.recipes = Recipes(folder / "recipes")

    def files(self, draw):
        found = {os.fsencode(name): content for name, content in self.run.items()}
        others = super().files(draw) | self.recipes.files(draw)
        return found | {name: others[name] for name in others if draw.random() < 0.2}

    def read(self, folder):
        report.write_report(folder, folder.parent / "report.html")


class Sweep(Kind):
    """sweep.json, summary.json and results.csv."""

    documented = (errors.RunError,)

    def files(self, draw):
        definition = {"data": "photos", "recipe": recipes.Recipe().to_dict(), "draw": "content"}
        definition |= {"space": {"lr": [0.1, 0.2]}, "search": "grid"}
        table = b'trial,lr,status,reason\na,0.1,done,\nb,0.2,failed,"x"\n'.replace(b",", b"\t")
        return {
            b"sweep.json": mutations.json_text(definition, draw),
            b"summary.json": mutations.json_text({"winner": {"lr": 1}, "trials": 2}, draw),
            b"results.csv": mutations.text(table, draw).replace(b"\t", b","),
        }

    def read(self, folder):
        sweep = SweepDirectory(folder)
        for row in sweep.rows():
            assert row is not None
        assert isinstance(sweep.summary(), dict) and isinstance(sweep.draw, str)
        assert isinstance(sweep.definition()["data"], str)


class Index(Kind):
    """What is known of a source from its last packing: it never is in the way."""

    def files(self, draw):
        known = {"source": "photos", "native": 8, "stores": {"64": "a-64", "8": "a-8"}}
        return {b"index.json": mutations.json_text(known, draw)}

    def read(self, folder):
        assert datasets.find_packed(folder / "index.json", 64, None) is None


class Predictions(Kind):
    """predictions.npz."""

    documented = (errors.RunError,)

    def files(self, draw):
        known = {
            "logits": np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3),
            "labels": np.arange(6) % 3,
            "ids": np.array([f"cat/{n}.png" for n in range(6)]),
            "classes": np.array(["cat", "dog", "eel"]),
        }
        return {b"predictions.npz": mutations.npz(known, draw)}

    def read(self, folder):
        found = RunDirectory(folder).predictions()
        assert found.hits.shape == found.labels.shape == (len(found.logits),)
        assert all(isinstance(one, str) for one in (*found.ids, *found.classes))


class Calibrations(Kind):
    """calibration.npz."""

    documented = (errors.RunError,)

    def files(self, draw):
        known = {
            name: np.linspace(0, 1, 9, dtype=np.float32)
            for name in ("p", "distance", "test_p", "test_distance")
        }
        memory = np.ones((3, 4), np.float16)
        return {b"calibration.npz": mutations.npz({**known, "memory": memory}, draw)}

    def read(self, folder):
        found = RunDirectory(folder).calibration()
        if len(found.memory):  # of none the width, which takes no place in the file, may be any
            there = torch.ones(2, found.memory.shape[1])
            assert distances(there, found.memory).shape == (2,)
        if len(found.p):
            assert found.told(0.5)


class Stores(Kind):
    """A Store, whose own checksum is right, wrong or, as in 0.1.0, missing."""

    def __init__(self, folder):
        store = store_of(folder, {"train": [0, 1, 2], "test": [0, 1]})
        self.known = {one.name.encode(): one.read_bytes() for one in store.path.iterdir()}
        self.info = store.info

    def files(self, draw):
        files = dict(self.known)
        if draw.random() < 0.2:
            name = draw.choice(list(files))
            files[name] = damaged([files[name]], draw)
        text = mutations.json_text(self.info, draw)
        with contextlib.suppress(ValueError, TypeError, RecursionError, AttributeError):
            text = json.dumps(json.loads(text)).encode()
            if draw.random() < 0.4:
                text = sealed(text)
        return files | {b"store.json": text}

    def read(self, folder):
        store = Store.open(folder)
        assert len(store.y) == len(store.ids) == len(store) == len(store.x[:])
        assert len(store.classes) == len(store.names) and isinstance(store.fingerprint, str)
        assert store.content is None or len(store.content) == len(store)
        for name in ("train", "val", "test", "all"):
            assert len(store.y[store.split(name)]) <= len(store)
        store.verify()


# -- networks


SMALLEST = description.Architecture(
    "small", tuple(description.Conv(n, 3, padding=1, lrn=n < 4, pool=n < 4) for n in (2, 3, 4)),
    (5,), 2, norm="lrn", pool="max",
)  # fmt: skip


class Weights(Kind):
    """best.safetensors: header and metadata, with a checksum that is right, or as 0.1.0 wrote it,
    without one. What is read must classify."""

    documented = (errors.WeightsError,)
    name = b"a.safetensors"

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "known.safetensors"
        network_of(path, SMALLEST, 3, description.Preprocessing(8, 8, (0.5,) * 3, (0.2,) * 3))
        self.take(path)

    def take(self, path):
        """The parts of a file."""
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        self.head, self.data = json.loads(content[8:start]), content[start:]
        self.about = json.loads(self.head.pop("__metadata__")["alexnet"])
        self.about |= {"version": 1}
        del self.about["crc32"]

    def files(self, draw):
        about = mutations.json_text(self.about, draw).decode("utf-8", "replace")
        if draw.random() < 0.4:
            about = about.replace('"version": 1', '"version": 2, "crc32": "00000000"')
        head = self.head | {"__metadata__": {"alexnet": about}}
        if draw.random() < 0.7:
            coded = json.dumps(head).encode()
            content = len(coded).to_bytes(8, "little") + coded + self.data
        else:
            content = mutations.safetensors_file(head, self.data, draw)
        content = mutations.perhaps_damaged(content, draw, 0.1)
        if place := header.place_of_checksum(content):
            right = checksum(content, place)
            content = content[:place] + right + content[place + 8 :]
        return {self.name: content}

    def read(self, folder):
        classifier = RunClassifier(checkpoint.load_model(folder / os.fsdecode(self.name)))
        p = classifier.predict_proba([np.zeros((9, 12, 3), np.uint8), np.ones((9, 9, 3), bool)])
        assert p.shape == (2, len(classifier.classes))


class Going(Weights):
    """last.safetensors: the state from which a run goes on."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        state = self.fresh()
        state.model(torch.ones(2, 3)).sum().backward()
        state.optimizer.step()
        state.history = [Epoch(1, 1.0, 0.5, 1.0, 0.5, 0.1, 2.0, 9.0, 0.0, True)]
        state.step, state.rates = 1, [0.1]
        state.tally.add(torch.zeros(()), torch.zeros((), dtype=torch.long))
        state.save(folder / "last.safetensors")
        self.take(folder / "last.safetensors")

    def fresh(self):
        """A state at its start."""
        model = torch.nn.Linear(3, 2)
        return State(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    def read(self, folder):
        self.fresh().load(folder / os.fsdecode(self.name))


class Foreign(Kind):
    """Weights of other programs: .safetensors, .npz and .pth."""

    documented = (errors.WeightsError,)

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        shapes = outline(description.ARCHITECTURES["small"], 3).state_dict()
        # views of one number: a file of some KB that is a whole network
        whole = {name: torch.zeros(()).expand(one.shape) for name, one in shapes.items()}
        torch.save(whole, folder / "a.pth")
        torch.save(whole, folder / "b.pth", _use_new_zipfile_serialization=False)
        self.pth = [(folder / name).read_bytes() for name in ("a.pth", "b.pth")]
        self.arrays = {"conv1_w": np.zeros((96, 3, 11, 11), np.int8), "conv1_b": np.zeros(96)}

    def files(self, draw):
        how = draw.choice(["pth", "pth", "npz", "safetensors"])
        if how == "pth":
            content = draw.choice(self.pth)
            for _ in range(draw.choice([1, 1, 2, 4])):
                content = damaged([content], draw)
        elif how == "npz":
            content = mutations.npz(self.arrays, draw)
        else:
            names = ["features.0.weight", "classifier.6.weight", "classifier.0.weight", "a"]
            head = {
                name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
                for n, name in enumerate(names)
            }
            content = mutations.safetensors_file(head, bytes(16), draw)
        return {f"a.{how}".encode(): content}

    def read(self, folder):
        [path] = folder.iterdir()
        assert weights.read_foreign(path).tensors


class Onnx(Kind):
    """The metadata of an exported file, and its graph. What is read must classify."""

    documented = (errors.WeightsError,)

    def __init__(self, folder):
        import onnx

        from alexnet.exporting.onnx_graph import whole_graph

        network = network_of(
            folder / "known.safetensors", SMALLEST, 3,
            description.Preprocessing(8, 8, (0.5,) * 3, (0.2,) * 3),
        )  # fmt: skip
        self.about = {"version": 1, "classes": network.classes, "names": network.names}
        self.about |= {"preprocessing": network.preprocessing.to_dict(), "metrics": {"top1": 1}}
        model = checkpoint.load_model(folder / "known.safetensors").model
        whole = whole_graph(model, network.preprocessing, "{}", int8=False)
        self.make, self.content = onnx.ModelProto.FromString, whole.SerializeToString()

    def files(self, draw):
        model = self.make(self.content)
        [entry] = [one for one in model.metadata_props if one.key == "alexnet"]
        entry.value = mutations.json_text(self.about, draw).decode("utf-8", "replace")
        content = model.SerializeToString()
        return {b"a.onnx": mutations.perhaps_damaged(content, draw, 0.3)}

    def read(self, folder):
        classifier = OnnxClassifier(folder / "a.onnx")
        p = classifier.predict_proba([np.zeros((9, 12, 3), np.uint8)])
        assert p.shape == (1, len(classifier.classes))
        with contextlib.suppress(errors.RunError):
            assert classifier.metrics


# -- heads


class Line(asyncio.Transport):
    """The server's end of a connection, without a socket."""

    def __init__(self):
        super().__init__({"peername": ("127.0.0.1", 9), "sockname": ("127.0.0.1", 80)})
        self.written, self.closed = bytearray(), False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return False

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        pass

    resume_reading = pause_reading


class Http(Kind):
    """Heads of requests, without a socket (fuzz_http.py has one): statuses that are documented."""

    documented = ()

    def __init__(self, folder):
        from servers import rules

        from alexnet.serving.api import Server, make_app
        from alexnet.serving.connections import http_server

        self.loop, self.known, self.errors = asyncio.new_event_loop(), documented(), Errors()
        logging.getLogger().addHandler(self.errors)
        self.server = Server({"model0": Colours()})
        self.http = http_server(make_app(self.server, rules()))
        self.http.config.load()

    def files(self, draw):
        return {b"data": mutated(draw) if draw.random() < 0.9 else damaged(SEEDS, draw)}

    def read(self, given):
        self.loop.run_until_complete(self.answer(given[b"data"]))
        assert not self.errors.found, self.errors.found.pop()

    def close(self):
        logging.getLogger().removeHandler(self.errors)
        self.server.stop()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def answer(self, data):
        """Sends data, waits a moment, and goes."""
        state, line = self.http.server_state, Line()
        protocol: Any = self.http.config.http_protocol_class
        one = protocol(config=self.http.config, server_state=state, app_state={}, _loop=self.loop)
        one.connection_made(line)
        one.data_received(data + b"\r\n\r\n")
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=0.004)
        one.connection_lost(None)
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=5)
        one._stop()
        assert not state.tasks
        told = {int(one) for one in re.findall(rb"(?:^|\n)HTTP/1\.1 (\d+)", line.written)}
        assert told <= self.known, told


KINDS: dict[str, Callable[[Path], Kind]] = {
    "tree": Tree, "table": Table, "arrays": Arrays, "zip": Zip, "tar": Tar, "layout": Layout,
    "annotations": Annotations, "recipe": Recipes, "figures": Figures, "sweep": Sweep,
    "index": Index, "weights": Weights,
    "state": Going, "foreign": Foreign, "predictions": Predictions, "calibration": Calibrations,
    "store": Stores, "http": Http,
    "onnx": Onnx, "page": Page,
}  # fmt: skip
IN_MEMORY = (Layout, Http)  # nothing lies on disk


# -- the run


@dataclass
class Found:
    """What became of some inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[int]] = field(default_factory=dict)  # what went wrong: which inputs
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0  # bytes above the start, at most

    def add(self, other):
        """Together with others."""
        self.outcomes += other.outcomes
        for what, numbers in other.broken.items():
            self.broken.setdefault(what, []).extend(numbers)
        self.seconds += other.seconds
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)

    def __str__(self):
        count = self.outcomes.total()
        told = ", ".join(f"{n:,} {what}" for what, n in self.outcomes.most_common())
        return (
            f"{count:>9,} in {self.seconds:6.0f} s, slowest {self.slowest:.2f} s, "
            f"{self.memory / 1e6:4.0f} MB: {told}"
        )


def write(files, folder):
    """Writes files, as far as a disk can have them."""
    for path, content in files.items():
        full = os.path.join(os.fsencode(folder), path.lstrip(b"/"))
        if b".." not in path.split(b"/"):
            with contextlib.suppress(OSError, ValueError):
                os.makedirs(os.path.dirname(full), exist_ok=True)
                if isinstance(content, Link):
                    os.symlink(content, full)
                else:
                    Path(os.fsdecode(full)).write_bytes(content)


def snapshot(folder):
    """Every file below a folder, with its content, and every link."""
    found = {}
    for here, folders, names in os.walk(os.fsencode(folder)):
        for path in (os.path.join(here, name) for name in (*folders, *names)):
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif not os.path.isdir(path):
                with open(path, "rb") as file:
                    found[path] = file.read()
    return found


def place_of(error):
    """Where an error came from, and what it is, shortly."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if "alexnet" in one.filename] or frames
    last = own[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} {str(error)[:90]!r}"


def one_input(kind, files, folder, found, number, loud=False):
    """Reads one input, and looks at all that was promised."""
    given = files
    if not isinstance(kind, IN_MEMORY):
        folder.mkdir(parents=True)
        write(files, folder)
        before, given = snapshot(folder), folder
    wrong = ""
    for clock in (time.monotonic, time.process_time):  # which costs more, and hears nobody else
        began = clock()
        try:
            kind.read(given)
            outcome = "read"
        except kind.documented as error:
            outcome = type(error).__name__
            wrong = "" if error.message and error.hint is not None else "an error without words"
        except BaseException as error:
            outcome, wrong = "broken", place_of(error)
            if loud:
                traceback.print_exc()
        took = clock() - began
        if took < MOST_SECONDS:
            break
    else:
        wrong = wrong or f"took over {MOST_SECONDS:.0f} s"
    if peak() - kind.base > MOST_BYTES:
        kind.base, wrong = peak(), wrong or f"took over {MOST_BYTES / 1e6:.0f} MB"
    if given is folder:
        if snapshot(folder) != before:
            wrong = wrong or "changed its input"
        shutil.rmtree(os.fsencode(folder))
    found.add(Found(Counter([outcome]), {wrong: [number]} if wrong else {}, took, took))


def portion(name, first, count, seed, folder, loud=False):
    """So many inputs of a kind, from number `first` on."""
    torch.set_num_threads(1)
    kind, where, found = ready(name, folder), folder / f"{os.getpid()}", Found()
    now = os.open(folder / f"now-{os.getpid()}", os.O_CREAT | os.O_WRONLY)
    with quietly():
        for number in range(first, first + count):
            draw = random.Random(f"{seed} {name} {number}")
            os.pwrite(now, f"{name} {number:<20}".encode(), 0)
            files = kind.files(draw)
            if (number - first) % 100 == 0:  # not for each: it starts a thread
                faulthandler.dump_traceback_later(HANGING, exit=True)
            one_input(kind, files, where / f"{number}", found, number, loud)
    faulthandler.cancel_dump_traceback_later()
    os.close(now)
    found.memory = peak() - kind.base
    return name, found


@contextlib.contextmanager
def quietly():
    """Nothing is said, and a warning is an error."""
    logger = logging.getLogger("alexnet")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        logger.setLevel(level)


made: dict[str, Kind] = {}


def ready(name, folder):
    """The kind, made once in each process."""
    if name not in made:
        own = folder / f"{os.getpid()}"
        made[name] = KINDS[name](own / f"made-{name}")
        made[name].base = peak()
    return made[name]


def fuzz(counts, seed=0, jobs=1, first=0):
    """Gives each kind so many inputs; {kind: Found}.

    Raises:
        AssertionError: a process ended; says at which input.
    """
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz-parsers-", dir=memory))
    os.environ["ALEXNET_CACHE"] = str(folder / "cache")
    results: dict[str, Found] = {name: Found() for name in counts}
    work = [
        (name, start, min(PORTION, first + count - start))
        for name, count in counts.items()
        for start in range(first, first + count, PORTION)
    ]
    try:
        if jobs == 0:
            for one in work:
                take(results, counts, *portion(*one, seed, folder, loud=len(work) == 1))
        else:
            with ProcessPoolExecutor(jobs) as pool:
                same = [seed] * len(work), [folder] * len(work)
                for one in pool.map(portion, *zip(*work, strict=True), *same):
                    take(results, counts, *one)
    except BrokenProcessPool as error:
        last = [path.read_text().strip() for path in folder.glob("now-*")]
        raise AssertionError(f"a process ended at one of {', '.join(last)}") from error
    finally:
        for kind in made.values():
            kind.close()
        made.clear()
        shutil.rmtree(folder, ignore_errors=True)
    return results


def take(results, counts, name, part):
    """Adds the findings of a portion to those of its kind, and tells them when they are whole."""
    found = results[name]
    found.add(part)
    if found.outcomes.total() == counts[name]:
        print(f"{name:12}{found}", flush=True)
        for what, numbers in sorted(found.broken.items(), key=lambda one: -len(one[1])):
            print(f"{name}: {len(numbers):,} times {what}, such as input {numbers[:3]}", flush=True)


def shared(count):
    """How many inputs of each kind."""
    return {name: max(1, round(count * share / 1_000)) for name, share in SHARES.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", default="", choices=["", *KINDS])
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--jobs", type=int, default=1)
    given = arguments.parse_args()
    counts = {given.only: given.count} if given.only else shared(given.count)
    results = fuzz(counts, given.seed, given.jobs, given.first)
    whole = Found()
    for found in results.values():
        whole.add(found)
    print(f"{'all':12}{whole}")
    sys.exit(1 if whole.broken else 0)


if __name__ == "__main__":
    main()
