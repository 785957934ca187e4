"""How often sets miss the true class, and how well what is unlike anything seen is told.

    uv run benchmarks/unsure.py real-data/tiny-imagenet-100 --far real-data/cifar10
    uv run benchmarks/unsure.py real-data/cifar10     # by which nothing was chosen

Heads on cached features of the backbone. Two things to know of those on 100 classes of Tiny
ImageNet: the backbone was trained on the training images of all these classes, so that its
features are better for images of training (and of a validation split drawn from them) than for
new ones; and classes "never seen" are such that no head was trained on, while the backbone knows
them all. Whatever is calibrated or looked at here is of the official validation images, which it
was never shown. Of CIFAR-10 it knows neither images nor classes.

Sets: a head for 100 classes; 200 times half of those 5,000 images calibrates, and the other half is
looked at. For comparison the scores APS (Romano, Sesia and Candes, 2020) and RAPS (Angelopoulos et
al., 2021, with the penalty 0.01 from the sixth class on), without their random part. And what
becomes of it when the images of validation are of those that the backbone was trained on.

Unlike anything seen: heads for K classes drawn at random; half of their images gives the threshold,
the other half is looked at, and images of the other classes, of CIFAR-10, digits, and noise.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn

import alexnet
from alexnet.data.datasets import open_data
from alexnet.network.frozen import FrozenPart, evaluation_view
from alexnet.runs.calibration import distances, unit
from alexnet.scoring.conformal import REMEMBERED, upper_quantile
from alexnet.scoring.metrics import softmax
from alexnet.training.train import set_up

RATE, SPLITS = 0.05, 200
PENALTY, FREE = 0.01, 5  # of RAPS
KNOWN = {5: 10, 20: 5, 50: 3}  # classes that a head knows: how often they are drawn
FAR, BLOCKS = 300, 5  # images of each other kind; noise is of single pixels, and of 5 x 5 blocks


def head(x, y, classes):
    """A linear head as the recipe `folder` has it, on features (N, D): batch norm and dropout."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.BatchNorm1d(x.shape[1]), nn.Dropout(0.5), nn.Linear(x.shape[1], classes)
    )
    steps = max(300, 6 * len(x) // 256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0015, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.0015, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (256,))
        loss = F.cross_entropy(model(x[rows].float()), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def probabilities(model, x):
    """(N, K) as answers have them."""
    logits = torch.cat([model(part.float()) for part in x.split(2000)])
    return softmax(logits.numpy()).astype(np.float32)


def scores(p, kind):
    """(N, K) how odd each class would be as the true one."""
    if kind == "1 - p":
        return -p
    order = np.argsort(-p, axis=1)
    sums = np.cumsum(np.take_along_axis(p, order, 1), 1)
    if kind == "RAPS":
        sums = sums + PENALTY * np.maximum(0, np.arange(1, p.shape[1] + 1) - FREE)
    found = np.empty_like(p)
    np.put_along_axis(found, order, sums.astype(p.dtype), 1)
    return found


def sets(p, labels):
    """Coverage and sizes over random halves."""
    for kind in ("1 - p", "APS", "RAPS"):
        every = scores(p, kind)
        true = every[np.arange(len(p)), labels]
        coverage, size, none = [], [], []
        for seed in range(SPLITS):
            order = np.random.default_rng(seed).permutation(len(p))
            one, other = np.array_split(order, 2)
            limit = upper_quantile(true[one], RATE)
            coverage.append((true[other] <= limit).mean())
            held = (every[other] <= limit).sum(1)
            size.append(held.mean())
            none.append((held == 0).mean())
        print(
            f"  {kind:6s} coverage {np.mean(coverage):.2%} +- {np.std(coverage):.2%}, "
            f"from {np.min(coverage):.2%} to {np.max(coverage):.2%}; "
            f"set size {np.mean(size):.2f}, none {np.mean(none):.1%}"
        )


def told(name, inside, there, others):
    """AUROC and what is found at RATE, of (N,) distances."""
    limit = upper_quantile(inside, RATE)
    found = {"false alarms": (there > limit).mean()}
    for other, values in others.items():
        truth = np.r_[np.zeros(len(there)), np.ones(len(values))]
        area = roc_auc_score(truth, np.r_[there, values])
        found |= {f"{other}: AUROC": area, f"{other}: found": (values > limit).mean()}
    return {f"{name}, {what}": float(one) for what, one in found.items()}


class Features:
    """What the frozen convolutions make of images, (N, D) float16."""

    def __init__(self, data):
        how = {"weights": "backbone", "views": 1, "flip": False, "crop_area": 1.0}
        self.inputs = set_up(data, alexnet.recipe("folder", **how)).inputs
        found, store = self.inputs.features, self.inputs.store
        splits = self.inputs.splits
        self.x = torch.from_numpy(np.array(found.stores[0].x))
        self.y = torch.from_numpy(np.asarray(store.y)[found.rows].astype(np.int64))
        self.train, self.val, self.test = map(found.place, (splits.train, splits.val, splits.test))
        self.side, self.classes = store.x.shape[-1], len(store.classes)

    def of(self, pictures):
        """The same of N pictures (H, W, 3) uint8."""
        inputs, size = self.inputs, (self.side, self.side)
        body = FrozenPart(inputs.model.split("conv")[0], inputs.device, inputs.dtype)
        view = evaluation_view(inputs.preprocessing).transform
        scaled = [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in pictures]
        x = torch.from_numpy(np.stack([np.asarray(one).transpose(2, 0, 1) for one in scaled]))
        return torch.cat([body.by_pieces(view, part, (0,)).half() for part in x.split(64)])

    def descriptors(self, x):
        return self.inputs.model.descriptor(x.float())


def others(features, far):
    """Pictures of other kinds."""
    generator = np.random.default_rng(0)
    digits = (load_digits().images[:FAR] * 15.9).astype(np.uint8)
    found = {"digits": np.repeat(digits[..., None], 3, 3)}
    for name, side in (("noise", features.side), ("blocks", BLOCKS)):
        found[name] = generator.integers(0, 256, (FAR, side, side, 3), dtype=np.uint8)
    if far:
        store = open_data(far, image_size=32)
        rows = np.sort(generator.permutation(len(store))[:FAR])
        found[Path(far).name] = np.asarray(store.x[rows]).transpose(0, 2, 3, 1)
    return {name: features.of(pictures) for name, pictures in found.items()}


def unlike(features, far, classes, seed):
    """Figures of one draw of classes."""
    generator = np.random.default_rng(seed)
    known = torch.full((features.classes,), -1)
    known[generator.permutation(features.classes)[:classes]] = torch.arange(classes)
    label = known[features.y]
    train = features.train[(label >= 0).numpy()[features.train]]
    inside = (label >= 0).numpy()[features.test]
    one, other = np.array_split(generator.permutation(features.test[inside]), 2)
    x = {"one": features.x[one], "other": features.x[other]}
    x |= {"other classes": features.x[features.test[~inside]]} | far
    model = head(features.x[train], label[train], classes)
    remembered = features.x[np.sort(generator.permutation(train)[:REMEMBERED])]
    memory = unit(features.descriptors(remembered)).half().numpy()
    whole = unit(model[0](remembered.float())).detach().half().numpy()
    kinds = {
        "descriptor": lambda x: distances(features.descriptors(x), memory),
        "last layer's": lambda x: distances(model[0](x.float()).detach(), whole),
        "1 - max p": lambda x: 1 - probabilities(model, x).max(1),
    }
    found = {}
    for name, kind in kinds.items():
        values = {key: kind(part) for key, part in x.items()}
        found |= told(name, values.pop("one"), values.pop("other"), values)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--far", default="", help="a data set of other pictures")
    given = parser.parse_args()
    features, begun = Features(given.data), time.monotonic()
    y, test = features.y.numpy(), features.test
    model = head(features.x[features.train], features.y[features.train], features.classes)
    p = probabilities(model, features.x[test])
    right = (p.argmax(1) == y[test]).mean()
    print(f"{features.classes} classes, top-1 {right:.2%}; {SPLITS} random halves")
    sets(p, y[test])
    val = probabilities(model, features.x[features.val])
    limit = upper_quantile(-val[np.arange(len(val)), y[features.val]], RATE)
    held = -p[np.arange(len(p)), y[test]] <= limit
    print(f"calibrated on validation, drawn from train: coverage {held.mean():.2%} of the others")
    far = others(features, given.far)
    for classes, draws in KNOWN.items():
        if classes >= features.classes:
            continue
        every = [unlike(features, far, classes, seed) for seed in range(draws)]
        print(f"{classes} classes known, {draws} draws of them")
        for key in every[0]:
            values = [one[key] for one in every]
            print(f"  {key:40s} {np.mean(values):.3f} +- {np.std(values):.3f}")
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
