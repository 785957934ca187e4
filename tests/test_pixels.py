"""What is taken from the training images before training: their mean image, their colours."""

import numpy as np
import pytest
import torch
from makers import change, class_folders, lines, store_of, write_pictures

import alexnet
from alexnet.data.augment import normalise
from alexnet.data.datasets import open_data
from alexnet.errors import ModelError, RecipeError
from alexnet.network.checkpoint import load_tensors
from alexnet.network.description import Preprocessing
from alexnet.network.inference import predict_logits
from alexnet.network.model import Whitening
from alexnet.network.pixels import colour_axes, training_pixels, whitening
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import own_data
from alexnet.training.train import set_up

RAW = change(mean="image", std=(1 / 255,) * 3, crop=16, lighting=0.1, lr=0.01)


def test_pixels_are_numpys(tmp_path):
    class_folders(tmp_path / "noise", {"cat": 20, "dog": 20}, size=(6, 6))
    store = open_data(tmp_path / "noise", image_size=6)
    rows = np.arange(1, 40, 2)
    seen = training_pixels(store, rows, Preprocessing(6, 4, (0.5,) * 3, (0.2,) * 3))
    windows = np.asarray(store.x[rows])[:, :, 1:5, 1:5].astype(float)
    np.testing.assert_allclose(seen.mean_image, windows.mean(0))
    colours = windows.transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(seen.covariance, np.cov(colours, bias=True), rtol=1e-9)
    values, vectors = np.linalg.eigh(np.cov(colours / 255, bias=True))
    ours = np.array(colour_axes(seen.covariance)).reshape(3, 3)
    for axis, value, vector in zip(ours.T, values[::-1], vectors.T[::-1], strict=True):
        assert np.linalg.norm(axis) == pytest.approx(np.sqrt(value))
        assert abs(axis @ vector) == pytest.approx(np.sqrt(value))
        assert axis[np.abs(axis).argmax()] > 0


def test_a_sample_of_many_images_is_enough(tmp_path, monkeypatch):
    store, how = store_of(tmp_path, {"all": [0, 1] * 20}), Preprocessing(2, 2, (0.5,) * 3, (1,) * 3)
    monkeypatch.setattr("alexnet.network.pixels.SAMPLE", 20)
    some, every = (training_pixels(store, np.arange(0, 40, step), how) for step in (2, 1))
    assert torch.equal(some.mean_image, every.mean_image)


def test_patches_are_white_once_whitened(tmp_path):
    class_folders(tmp_path / "noise", {"cat": 20, "dog": 20}, size=(6, 6))
    store = open_data(tmp_path / "noise", image_size=6)
    how = Preprocessing(6, 6, (0.5, 0.4, 0.6), (0.2, 0.3, 0.25))
    seen = training_pixels(store, np.arange(40), how, patch=2)
    layer = Whitening(2, stride=1)
    layer.weight.copy_(whitening(seen.covariance, how.std))
    x = normalise(torch.from_numpy(np.array(store.x[:])), how.mean, how.std)
    found = layer(x)
    assert found.shape == (40, 24, 5, 5)
    one_way, other_way = found.chunk(2, 1)
    values = (one_way - other_way).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(np.cov(values, bias=True), np.eye(12), atol=0.01)
    assert not (one_way * other_way).any()


@pytest.mark.slow
def test_a_run_keeps_its_mean_image_and_its_colours(tmp_path):
    folder = write_pictures(tmp_path / "colours")
    run = RunDirectory(alexnet.train(folder, RAW, out=tmp_path / "run"))
    settings, network = run.settings, run.network()
    own = own_data(settings, network.preprocessing)
    pixels = np.asarray(own.store.x[own.splits.train]).astype(float)
    found = network.tensors["features.mean.image"].numpy()
    np.testing.assert_allclose(found, pixels.mean(0), rtol=1e-5)
    assert settings.asked.mean == settings.recipe.mean == "image"
    seen = training_pixels(own.store, own.splits.train, network.preprocessing)
    assert settings.recipe.to_dict()["lighting_axes"] == colour_axes(seen.covariance)
    # the same bits after half of it, and again from its files
    half = alexnet.train(folder, RAW.replace(epochs=1, schedule="constant"), out=tmp_path / "half")
    alexnet.resume(half, epochs=2)
    whole = alexnet.train(folder, RAW.replace(schedule="constant"), out=tmp_path / "whole")
    one, other = (load_tensors(r / "best.safetensors")[0] for r in (half, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    alexnet.repeat(run.path, out=tmp_path / "again")
    # what begins from it has the same mean image
    later = alexnet.train(
        folder, RAW.replace(weights=str(run), mean="auto", std="auto"), out=tmp_path / "later"
    )
    assert np.array_equal(RunDirectory(later).network().tensors["features.mean.image"], found)
    with pytest.raises(ModelError, match="not of the size of the mean image"):
        alexnet.train(folder, RAW.replace(weights=str(run), crop=12), out=tmp_path / "other")
    plain = alexnet.train(folder, change(), out=tmp_path / "plain")
    with pytest.raises(RecipeError, match="were made without a mean image"):
        alexnet.train(folder, RAW.replace(weights=str(plain)), out=tmp_path / "another")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet-2012", "imagenet-2014"])
def test_the_recipes_of_the_papers_tell_images_apart_and_learn(name, tmp_path):
    folder = write_pictures(tmp_path / "colours", per_class=12, side=16)
    recipe = alexnet.recipe(name).replace(
        batch_size=12, epochs=10, schedule="constant", views=1, dropout=0.0, clip=5.0,
        tensorboard=False, report=False,
    )  # fmt: skip
    run = set_up(folder, recipe)
    [views] = run.inputs.views(run.inputs.splits.test, "none")
    logits, _ = predict_logits(run.model, [views], torch.float32, "untrained")
    assert logits.std(0).mean() > 1e-3
    few = recipe.replace(hidden=256)  # quick
    done = lines(alexnet.train(folder, few, out=tmp_path / "run"))
    losses = [line["train_loss"] for line in done]
    assert min(losses) < 0.8  # 1.1 is chance
