"""Makers of tiny data: image folders, Tiny ImageNet's tree, CIFAR-10's files, archives, Stores,
weights."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import struct
import tarfile
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from alexnet.atomic import write_json
from alexnet.commands.flags import plain
from alexnet.data.finding import find_data, listed
from alexnet.data.handed import labelled
from alexnet.data.images import load_image
from alexnet.data.store import Store, StoreWriter
from alexnet.errors import DataError
from alexnet.network.checkpoint import Network, save_network
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet
from alexnet.recipes import Recipe
from alexnet.runs.directory import Predictions
from alexnet.scoring.metrics import metrics


def noise(seed=0, size=(8, 8), mode="RGB"):
    """A Pillow image of random pixels; `size` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def smooth(size=(64, 64)):
    """A Pillow image without fine detail, as photographs are when seen closely."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    pixels = np.stack([255 * x, 255 * y, 127 + 120 * np.sin(6 * x + 4 * y)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image, kind="PNG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_image(path, size=(8, 8), mode="RGB"):
    """Writes an image that only its path determines, so that all of a folder differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
    image = noise(zlib.crc32(os.fsencode("/".join(path.parts[-3:]))), size, mode)
    path.write_bytes(encoded(image, kind))


def class_folders(root, folders, size=(8, 8), mode="RGB"):
    """Writes `folders`, such as {"train/cat": 3}, of that many images each."""
    root.mkdir(parents=True, exist_ok=True)
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write_image(root / folder / f"{number}.png", size, mode)
    return root


WNIDS = {"n03": "crane, lifting machine", "n01": "goldfish, Carassius auratus", "n02": "crane"}


def tiny_imagenet(root, size=(8, 8)):
    """The official tree with three classes: 3 training and 2 val images each, 2 test images."""
    annotations = []
    for place, wnid in enumerate(sorted(WNIDS)):
        for number in range(3):
            write_image(root / f"train/{wnid}/images/{wnid}_{number}.JPEG", size)
        (root / f"train/{wnid}/{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t8\t8\n")
        for number in (place, place + 3):
            write_image(root / f"val/images/val_{number}.JPEG", size)
            annotations.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t7\t7\n")
    (root / "val/val_annotations.txt").write_text("".join(annotations))
    for number in range(2):
        write_image(root / f"test/images/test_{number}.JPEG", size)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))  # not sorted
    others = {"n00": "entity"}  # words.txt knows all of WordNet
    (root / "words.txt").write_text(
        "".join(f"{wnid}\t{words}\n" for wnid, words in (others | WNIDS).items())
    )
    return root


CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def cifar_files(counts=None):
    """({name: content}, labels, pixels (N, 3, 32, 32)) of CIFAR-10's binary version, in order."""
    counts = counts or {"data_batch_1.bin": 20, "data_batch_2.bin": 10, "test_batch.bin": 10}
    generator = np.random.default_rng(0)
    files, labels, pixels = {}, [], []
    for name, count in counts.items():
        here = generator.permutation(np.arange(count) % 10).astype(np.uint8)
        records = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        files[name] = np.concatenate([here[:, None], records], axis=1).tobytes()
        labels.extend(here.tolist())
        pixels.append(records.reshape(-1, 3, 32, 32))
    files["batches.meta.txt"] = "\n".join(CIFAR_CLASSES).encode() + b"\n\n"
    files["readme.html"] = b"<html></html>"
    return files, labels, np.concatenate(pixels)


def refused_data(data, *words, **reading):
    """Looks that data is refused in these words, with what to do."""
    with pytest.raises(DataError) as caught:
        listed(find_data(labelled(data, **reading)))
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert caught.value.hint


def write_files(root, files):
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def tarred(path, files, top="cifar-10-batches-bin/"):
    """A compressed tar of {name: content}, in the reverse order: an archive promises none."""
    mode: Any = f"w:{path.suffix[1:]}"
    with tarfile.open(path, mode) as archive:
        for name, content in reversed(files.items()):
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path, folder, top=""):
    """A zip of everything below `folder`, stored, not compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, top + file.relative_to(folder).as_posix())
    return path


def snapshot(folder):
    """Every file below `folder` with its content and time of change."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def store_of(parent, splits, side=2):
    """A Store whose pixels are the number of the example; `splits` is {"train": labels, ...}."""
    labels = [label for part in splits.values() for label in part]
    classes = [f"class {label}" for label in range(max(labels) + 1)]
    places, start = {}, 0
    for name, part in splits.items():
        places[name] = (start, start + len(part))
        start += len(part)
    x = np.broadcast_to(np.arange(len(labels))[:, None, None, None], (len(labels), 3, side, side))
    with StoreWriter(parent, (3, side, side), "uint8") as writer:
        writer.append(x)
        info = {"source": "made", "classes": classes, "names": classes, "splits": places, "bad": []}
        ids = [f"{place}.png" for place in range(len(labels))]
        return Store.open(
            writer.finish("made", info | {"fingerprint": "0" * 64}, np.array(labels), ids)
        )


def network_of(path, architecture, classes, preprocessing=None):
    """Writes a weights file of random weights; returns the Network."""
    names = [f"class {number}" for number in range(classes)]
    torch.manual_seed(0)
    model = AlexNet(architecture, classes)
    how = preprocessing or Preprocessing(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    network = Network(path, architecture, model.state_dict(), names, names, how)
    save_network(path, network)
    return network


def data_uri(seed=0, size=(16, 16), kind="PNG"):
    """A picture of random pixels as a page holds it."""
    coded = base64.b64encode(encoded(noise(seed, size), kind)).decode("ascii")
    return f"data:image/{kind.lower()};base64,{coded}"


def run_directory(path, names=("cat", "dog", "eel"), n=60, seed=0, right=0.7, lines=3, **recipe):
    """A finished run directory without weights: n images, of which about `right` are right."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % len(names)
    logits = np.random.default_rng(99).normal(size=(n, len(names))).astype(np.float32)
    logits[np.arange(n), labels] += np.where(generator.random(n) < right, 4, -4)
    path.mkdir(parents=True)
    ids = [f"{names[label][:20]}/{number}.jpg" for number, label in enumerate(labels)]
    Predictions(logits, labels, ids, list(names)).save(path / "predictions.npz")
    figures = metrics(logits, labels, list(names), "test")
    extra = {"best_epoch": 2, "val_top1": 0.5, "seconds": 61.5, "chose_epoch_on_it": False}
    write_json(path / "metrics.json", figures | extra)
    fields = Recipe(**recipe)
    write_json(
        path / "recipe.json",
        {"data": "some/photos", "recipe": fields.to_dict(), "digest": fields.digest},
    )
    command = ["alexnet", "train", "some/photos", "--out", str(path)]
    around = {"device": "cpu", "processor": "made", "precision": "float32", "command": command}
    write_json(path / "environment.json", around | {"data_fingerprint": "0" * 64, "versions": {}})
    with open(path / "epochs.jsonl", "w", encoding="utf-8") as file:
        for epoch in range(1, lines + 1):
            line = {"epoch": epoch, "best": epoch == 2, "lr": 0.1 / epoch, "seconds": 2.0}
            line |= {"train_loss": 2 / epoch, "val_loss": 2.2 / epoch, "train_top1": epoch / 9}
            file.write(json.dumps(line | {"val_top1": epoch / 10}) + "\n")
    return path


def textures(count, side, seed=0):
    """Pillow images with as much detail at every scale as photographs, all different."""
    generator = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    weight = 1 / np.maximum(np.hypot(down, across), 1 / side)
    images = []
    for _ in range(count):
        noise = generator.standard_normal((3, side, side))
        noise[1:] = 0.3 * noise[1:] + noise[0]  # channels of a photograph go together
        wave = np.fft.irfft2(np.fft.rfft2(noise) * weight, (side, side))
        wave = 128 + 50 * (wave - wave.mean()) / wave.std()
        images.append(Image.fromarray(wave.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))
    return images


def pictures_store(parent, images):
    """A Store of square Pillow images as they are, all in one split, of two classes in turn."""
    x = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
    with StoreWriter(parent, x.shape[1:], "uint8") as writer:
        writer.append(x)
        info: dict[str, Any] = {"source": "made", "bad": []}
        info |= {"classes": ["a", "b"], "names": ["a", "b"]}
        info |= {"splits": {"all": (0, len(x))}, "fingerprint": "0" * 64}
        ids = [f"{place}.png" for place in range(len(x))]
        return Store.open(writer.finish("made", info, np.arange(len(x)) % 2, ids))


# what recipes and sweeps are tried with: a training of a blink
TINY = Recipe().replace(
    image_size=16, pool="max", width=0.125, batch_size=16, epochs=2, lr=0.05, dropout=0.0,
    tensorboard=False,
    report=False,
)  # fmt: skip
SMALL = architecture("small", width=0.125, pool="max")
MADE_FOR = Preprocessing(20, 16, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
FROZEN = Recipe().replace(
    weights="made", freeze="conv", batch_size=16, epochs=2, lr=0.05, dropout=0.0,
    precision="fp32", tensorboard=False, report=False,
)  # fmt: skip
HUES = {"blue": (40, 60, 200), "green": (50, 200, 60), "red": (210, 50, 40)}


def picture(name, seed, side=16):
    noise = np.random.default_rng(seed).integers(-40, 40, (side, side, 3))
    return Image.fromarray((np.array(HUES[name]) + noise).clip(0, 255).astype(np.uint8))


def write_pictures(root, per_class=20, classes=HUES, side=16):
    for name in classes:
        (root / name).mkdir(parents=True)
        for seed in range(per_class):
            picture(name, seed + len(name) * 1000, side).save(root / name / f"{seed}.png")
    return root


def change(recipe=TINY, **fields):
    return dataclasses.replace(recipe, **fields)


def lines(run):
    return [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]


def table(path, without=("seconds",)):
    with open(path / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in without} for row in rows]


HOSTILE = [
    '<script>alert("x")</script>',
    "$\\frac{1}{$",
    '"><img src=x onerror=alert(1)>',
    "]]><!--",
    "a\x00b\x1b[31m\nc",
    "\udcff\ud800",
    "שלום עולם",
    "\u202etxt.exe",
    "🐈‍⬛ 猫",
    "long " * 200,
    "&amp; &#60;",
    "",
]

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "grey": (128,) * 3}

COLOUR_NAMES = {"red": "the colour red"}  # readable ones that differ


class Colours:
    """Says which of the colours the middle of an image is nearest to, after `seconds`."""

    image_size, white = 8, 0

    def __init__(self, seconds=0.0, names=tuple(COLOURS)):
        self.classes = list(names)
        self.names = [COLOUR_NAMES.get(one, one) for one in names]
        self.seconds, self.sizes = seconds, []
        self.free = threading.Event()
        self.free.set()

    def square(self, content):
        return load_image(content, 8)

    def probabilities(self, squares):
        self.free.wait(20)
        time.sleep(self.seconds)
        self.sizes.append(len(squares))
        middle = np.stack(squares)[:, :, 4, 4].astype(float)
        far = np.abs(middle[:, None] - np.array(list(COLOURS.values()))[None]).sum(2)
        near = np.exp(-far / 10)
        return (near / near.sum(1, keepdims=True)).astype(np.float32)


def film(path, names=("red", "blue", "green", "blue"), each=5, size=(160, 120), rate=12):
    """A video of one colour after another, written without our code, as BGR."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    for name in names:
        frame = np.full((size[1], size[0], 3), COLOURS[name][::-1], np.uint8)
        for _ in range(each):
            writer.write(frame)
    writer.release()
    return path


def tensors_sha256(path):
    """Of the tensors of a weights file alone: its metadata may gain fields."""
    found = hashlib.sha256()
    with safe_open(path, framework="np") as file:
        for name in sorted(file.keys()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(file.get_tensor(name)).tobytes())
    return found.hexdigest()


def chunk(kind, content, wrong=0):
    """A chunk of a PNG, with a wrong checksum if asked."""
    sum_ = struct.pack(">I", zlib.crc32(kind + content) ^ wrong)
    return struct.pack(">I", len(content)) + kind + content + sum_


def with_chunk(content, extra, last=False):
    """A PNG with one more chunk, before its pixels or behind them."""
    place = content.index(b"IEND") - 4 if last else content.index(b"IDAT") - 4
    return content[:place] + extra + content[place:]


def typed(page: str) -> list[tuple[str, str]]:
    """What a page has its reader type, in its order: a "command", or lines of "python"."""
    found = []
    for language, block in re.findall(r"```(\w*)\n(.*?)```", page, re.DOTALL):
        if language == "python":
            found.append(("python", block))
        elif language in ("", "sh", "bash"):
            lines = [line.split("#")[0].strip() for line in block.splitlines()]
            found += [("command", line) for line in lines if "alexnet " in line]
    return found


# values of fields that are not those of most recipes; None: other fields would have to change
OTHER = {
    "weights": "imagenet", "device": "cpu", "conv_layers": 4, "columns": 1, "fc_layers": 3,
    "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "frozen_dropout": None, "nesterov": None,
    "views": 1, "head": None, "folds": None, "cache": False, "teacher": None,
    "class_weights": "balanced",
}  # fmt: skip


def another(name, hint, value):
    """A value that a field has not, and may have; None where other fields would have to change."""
    if name in OTHER:
        return OTHER[name]
    if get_origin(hint) is Annotated and plain(hint) in (int, float):
        limits = get_args(hint)[1]
        tried = (value / 2 or 0.5, value + 1) if plain(hint) is float else (value + 1, value - 1)
        return next(one for one in tried if one in limits)
    if get_origin(hint) is Literal:
        return next(one for one in get_args(hint) if one not in (value, "none"))
    if hint is bool:
        return not value
    numbers = next(one for one in get_args(hint) if get_origin(one) is not Literal)
    return plain(numbers)(2)
