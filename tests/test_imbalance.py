"""Classes of very different sizes: weights of the loss, and balanced epochs."""

import json

import numpy as np
import pytest
import torch
from makers import TINY, change, picture, store_of
from torch.nn import functional as F

import alexnet
from alexnet.cli import main
from alexnet.data.store import Batches
from alexnet.errors import RecipeError
from alexnet.fitting.optimization import make_loss
from alexnet.recipes import Recipe
from alexnet.runs.directory import RunDirectory
from alexnet.runs.imbalance import class_weights

COUNTS, NAMES = np.array([1000, 100, 30]), ["cat", "dog", "eel"]
READABLE = ["house cat", "dog", "conger"]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    root = tmp_path_factory.mktemp("uneven") / "photos"
    for name, count in (("blue", 30), ("green", 12), ("red", 6)):
        (root / name).mkdir(parents=True)
        for seed in range(count):
            picture(name, seed + 1000 * len(name), side=40).save(root / name / f"{seed}.png")
    return root


def test_weights_even_classes_out_and_have_a_mean_of_one():
    balanced = np.array(class_weights("balanced", COUNTS, NAMES, READABLE))
    assert np.allclose(balanced * COUNTS, COUNTS.sum() / 3)
    effective = np.array(class_weights("effective", COUNTS, NAMES, READABLE))
    for weights in (balanced, effective):
        assert (weights * COUNTS).sum() == pytest.approx(COUNTS.sum())
    assert 1 < effective[2] / effective[0] < balanced[2] / balanced[0]
    assert class_weights("none", COUNTS, NAMES, READABLE) == ()


def test_a_file_says_weights(tmp_path, capsys):
    (tmp_path / "w.csv").write_text("class,weight\neel,5\ncat,1\n")
    found = class_weights(str(tmp_path / "w.csv"), COUNTS, NAMES, READABLE)
    assert found[2] / found[0] == pytest.approx(5) and found[1] == found[0]
    assert "no weight for dog: 1" in capsys.readouterr().err
    (tmp_path / "w.json").write_text('{"cat": 1, "dog": 1, "eel": 5}')
    assert class_weights(str(tmp_path / "w.json"), COUNTS, NAMES, READABLE) == found
    (tmp_path / "w.json").write_text('{"house cat": 1, "dog": 1, "conger": 5}')
    assert class_weights(str(tmp_path / "w.json"), COUNTS, NAMES, READABLE) == found


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("w.csv", "owl,1\n", "'owl': there is no class 'owl'"),
        ("w.csv", "cat,0\n", "'0' for 'cat', expected one above 0"),
        ("w.csv", "cat,x\n", "'x' for 'cat'"),
        ("w.csv", "cat,nan\n", "'nan' for 'cat'"),
        ("w.csv", "cat,1\ncat,2\n", "a second weight for 'cat'"),
        ("w.csv", "cat,1\nhouse cat,2\n", "a second weight for 'house cat'"),
        ("w.csv", "cat\n", "two columns"),
        ("w.json", "[1]", "no object"),
        ("w.json", "{", "cannot be read"),
        ("v.csv", "", "cannot be read .*No such file"),
    ],
)
def test_wrong_files_are_refused(name, text, words, tmp_path):
    if name[0] == "w":
        (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=words) as caught:
        class_weights(str(tmp_path / name), COUNTS, NAMES, READABLE)
    assert caught.value.hint


def test_what_a_recipe_cannot_ask_for():
    with pytest.raises(RecipeError, match=r"class_weights is 'balance'.*") as caught:
        Recipe(class_weights="balance")
    assert "Did you mean 'balanced'" in caught.value.hint
    solved = Recipe(head="ridge", freeze="conv", weights="x")
    for fields in ({"class_weights": "balanced"}, {"sampling": "balanced"}):
        with pytest.raises(RecipeError, match="head is ridge"):
            solved.replace(**fields)
    assert Recipe().digest == Recipe(class_weights="none", sampling="shuffled").digest


@pytest.mark.parametrize("name", ["cross-entropy", "bce", "double-softmax", "softmax-bce"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_an_image_is_multiplied(name, smoothing):
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    plain, weighted = make_loss(name, smoothing), make_loss(name, smoothing, (1.0, 2.0, 0.0))
    each = torch.stack([plain(logits[n : n + 1], labels[n : n + 1]) for n in range(6)])
    expected = (each * torch.tensor([1.0, 2.0, 0.0])[labels]).mean()
    assert torch.allclose(weighted(logits, labels), expected)
    assert torch.allclose(
        make_loss(name, smoothing, (1.0,) * 3)(logits, labels), plain(logits, labels)
    )
    if name == "cross-entropy":
        assert torch.equal(
            plain(logits, labels), F.cross_entropy(logits, labels, label_smoothing=smoothing)
        )


def test_a_balanced_epoch_has_each_class_as_often(tmp_path):
    labels = [0] * 50 + [1] * 9 + [2] * 2
    batches = Batches(
        store_of(tmp_path, {"train": labels}), np.arange(61), batch_size=10, shuffle=True,
        balanced=True, transform=lambda x, generator: x, device=torch.device("cpu"),
    )  # fmt: skip
    seen = np.zeros(61, int)
    for epoch in range(6):
        found = [(x[:, 0, 0, 0].numpy(), y.numpy()) for x, y in batches.epoch(epoch)]
        rows, y = (np.concatenate(one) for one in zip(*found, strict=True))
        assert len(rows) == 61 and sorted(np.bincount(y).tolist()) == [20, 20, 21]
        assert [labels[row] for row in rows] == y.tolist()
        seen += np.bincount(rows, minlength=61)
        # the end of an epoch is the same whether or not its beginning was seen
        later = [y.tolist() for _, y in batches.epoch(epoch, start=3)]
        assert later == [y.tolist() for _, y in found[3:]]
    for label in range(3):  # every image of a class comes as often as another, but for the rest
        times = seen[np.array(labels) == label]
        assert times.max() - times.min() <= 6 and times.min() > 0


@pytest.mark.slow
def test_a_run_says_what_weights_did(uneven, tmp_path):
    recipe = change(TINY, class_weights="balanced", val_size=0.3, report=True)
    run = alexnet.train(uneven, recipe, out=tmp_path / "run")
    weights = RunDirectory(run).settings.recipe.to_dict()["loss_weights"]
    found = alexnet.load(run).metrics["evened_out"]
    assert found["images"] == [17, 7, 3] and found["weights"] == list(weights)
    assert np.allclose(np.array(weights) * found["images"], sum(found["images"]) / 3)
    assert found["plain_val_recall"] is None
    page = (run / "report.html").read_text()
    assert "What class weights and sampling did" in page and "alexnet report RUN OTHER" in page
    plain = change(recipe, class_weights="none", report=False)
    other = alexnet.train(uneven, plain, out=tmp_path / "other")
    assert "evened_out" not in alexnet.load(other).metrics
    assert (run / "best.safetensors").read_bytes() != (other / "best.safetensors").read_bytes()


@pytest.mark.slow
def test_heads_are_compared_with_a_training_without(uneven, tmp_path, capsys):
    words = ["train", str(uneven), "--epochs", "2", "--val-size", "0.3", "--out"]
    for field in (["--class-weights", "effective"], ["--sampling", "balanced"]):
        run = tmp_path / field[1]
        assert main([*words, str(run), *field]) == 0, capsys.readouterr().err
        found = json.loads((run / "metrics.json").read_text())["evened_out"]
        assert len(found["plain_val_recall"]) == len(found["val_recall"]) == 3
        assert "found without" in (run / "report.html").read_text()
        assert main(["resume", str(run), "--epochs", "3"]) == 0
