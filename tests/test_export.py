"""Exported files say what the run says, whatever the network, the preprocessing and the image."""

import builtins
import functools
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from makers import encoded, network_of, noise, smooth
from PIL import Image

import alexnet
from alexnet import cli
from alexnet.classification.onnx_classifier import OnnxClassifier
from alexnet.classification.predict import Copies, folder_names, image_files
from alexnet.classification.run_classifier import RunClassifier
from alexnet.data.augment import resize
from alexnet.data.images import load_image
from alexnet.errors import AlexNetError, DataError, InputError, RecipeError, RunError, WeightsError
from alexnet.exporting.export import NOT_STATED, export, onnx_bytes, sample_images, verify
from alexnet.exporting.onnx_graph import INPUT, Graph, square
from alexnet.exporting.quantise import quantised, round_weights
from alexnet.exporting.whole import Whole, exported_program
from alexnet.network.checkpoint import Trained, load_model
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet
from alexnet.runs.directory import RunDirectory

PLAIN = Preprocessing(32, 32, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
HOSTILE = ["<script>alert(1)</script>", 'a"b\\c\n', "../../etc/passwd", "ünï 猫", "", "con"]
VARIANTS = {
    "small": (architecture("small", width=0.1), PLAIN),
    "small, average, two views": (
        architecture("small", width=0.1, pool="average", activation="tanh"),
        replace(PLAIN, crop=28, views=2),
    ),
    "small, LRN, border": (
        architecture("small", width=0.1, norm="lrn", activation="leaky-relu"),
        replace(PLAIN, border=2, crop=33, views=2),
    ),
    "small, hidden, normed": (
        architecture("small", width=0.1, fc_layers=3, fc_norm="batch", norm="batch-for-lrn"),
        replace(PLAIN, crop=31, views=10),
    ),
    "compact": (architecture("compact", width=0.1), replace(PLAIN, crop=28, views=2)),
    "compact, wider map": (architecture("compact", width=0.1, map_side=2), PLAIN),
    "fast": (architecture("fast", width=0.1), replace(PLAIN, views=2)),
    "wide": (architecture("wide", width=0.1), replace(PLAIN, views=2)),
    "2012": (architecture("2012", width=0.1), replace(PLAIN, image_size=70, crop=67, views=2)),
    "small, mean image": (
        replace(architecture("small", width=0.1), mean_image=31),
        replace(PLAIN, crop=31, mean=(0.0, 0.0, 0.0), views=10),
    ),
    "2012, wider map": (architecture("2012", width=0.1), replace(PLAIN, image_size=99, crop=99)),
    "2014": (
        architecture("2014", width=0.1, conv_layers=3),
        replace(PLAIN, image_size=64, crop=63),
    ),
}


def trained_of(description, how, classes=4, names=None):
    """A network with random weights and running means, far from what it began with."""
    torch.manual_seed(0)
    model = AlexNet(description, classes).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
        elif name == "features.mean.image":
            buffer.copy_(torch.rand_like(buffer))
    names = names or [f"class {number}" for number in range(classes)]
    return Trained(model, names, names, how)


def about(trained):
    how = {**vars(trained.preprocessing)}
    return {"version": 1, "classes": trained.classes, "names": trained.names, "preprocessing": how}


def pictures(side):
    """Images of all kinds of sizes: small and large, wide and tall, odd margins."""
    sizes = [(side, side), (side + 1, side), (3 * side, 2 * side), (2 * side, 5 * side)]
    sizes += [(7, 30), (side // 2, side // 2 + 1), (side - 1, 4 * side), (9 * side, side)]
    return [np.array(noise(number, size)) for number, size in enumerate(sizes)]


@pytest.fixture
def run(photos_run):
    return photos_run


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_graph_says_what_the_network_says(variant):
    trained = trained_of(*VARIANTS[variant])
    reference = RunClassifier(trained, device="cpu", precision="fp32")
    classifier = OnnxClassifier(onnx_bytes(trained, about(trained)))
    whole = Whole(trained.model, trained.preprocessing).eval()
    for image in pictures(trained.preprocessing.image_size):
        expected = reference.predict_proba(image)
        assert np.abs(classifier.run(image[None]) - expected).max() < 1e-5
        with torch.inference_mode():
            assert np.abs(whole(torch.from_numpy(image)[None]).numpy() - expected).max() < 1e-5
        assert np.abs(classifier.predict_proba(image) - expected).max() < 1e-5


@functools.cache
def scaling(size):
    """The scaling alone: a session of its graph, and the same in torch."""
    import onnxruntime

    graph = Graph()
    graph.nodes.append(onnx.helper.make_node("Identity", [square(graph, size)], ["out"]))
    made = onnx.helper.make_graph(
        graph.nodes,
        "scaling",
        [onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["N", 3, size, size])],
        list(graph.constants.values()),
    )
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    how = Preprocessing(size, size, (0.5,) * 3, (0.5,) * 3)
    whole = Whole(AlexNet(architecture("small", width=0.1), 2), how)
    return onnxruntime.InferenceSession(model.SerializeToString()), whole.square


@given(
    size=st.sampled_from([8, 32, 61]),
    height=st.integers(2, 300),
    width=st.integers(2, 300),
    seed=st.integers(0, 99),
)
def test_the_scaling_is_that_of_training_in_every_byte(size, height, width, seed):
    image = np.array(noise(seed, (width, height)))
    session, in_torch = scaling(size)
    [found] = session.run(None, {INPUT: image[None]})
    assert (found[0] == load_image(image, size)).all()
    assert (in_torch(torch.from_numpy(image)[None])[0].numpy() == load_image(image, size)).all()


def test_enlarging_is_that_of_the_store():
    image = noise(3, (20, 20))
    pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1))[None]
    [found] = scaling(61)[0].run(None, {INPUT: np.array(image)[None]})
    assert (found == resize(pixels, 61).numpy()).all()


def test_a_batch_is_its_images_one_by_one():
    trained = trained_of(*VARIANTS["2012"])
    classifier = OnnxClassifier(onnx_bytes(trained, about(trained)))
    images = np.stack([np.array(noise(seed, (80, 75))) for seed in range(5)])
    one_by_one = np.concatenate([classifier.run(one[None]) for one in images])
    assert np.abs(classifier.run(images) - one_by_one).max() < 1e-6


@pytest.mark.slow
def test_an_exported_program_takes_any_size_and_number(tmp_path):
    trained = trained_of(*VARIANTS["small, LRN, border"])
    program = exported_program(trained.model, trained.preprocessing)
    whole = Whole(trained.model, trained.preprocessing).eval()
    module = program.module()
    for count, height, width in product((1, 3), (2, 32, 90), (31, 200)):
        images = torch.randint(256, (count, height, width, 3), dtype=torch.uint8)
        with torch.inference_mode():
            torch.testing.assert_close(module(images), whole(images), atol=1e-6, rtol=0)


def test_a_run_becomes_a_file(run, tmp_path, capsys):
    path = tmp_path / "deep" / "model.onnx"
    assert cli.main(["export", str(run), "--out", str(path), "--licence", "CC0"]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(path) and [one.name for one in path.parent.iterdir()] == [
        "model.onnx"
    ]
    assert "verified model.onnx: same class for 64 of 64 images of the run's test" in told.err
    onnx.checker.check_model(onnx.load(path), full_check=True)
    model: Any = alexnet.load(path)
    reference = alexnet.load(run, precision="fp32")
    assert all(isinstance(one, alexnet.Classifier) for one in (model, reference))
    assert list(model.classes_) == ["cat", "dog", "eel"] == model.names
    assert model.metrics["top1"] == reference.metrics["top1"]
    assert "confusion" not in model.metrics
    assert model.about["licence"] == "CC0" and model.about["recipe"]["epochs"] == 1
    assert model.about["alexnet"] == alexnet.__version__
    given = [
        smooth(),
        np.array(noise(1, (90, 33))),
        encoded(noise(2, mode="LA")),
        noise(3, mode="1"),
    ]
    np.testing.assert_allclose(
        model.predict_proba(given), reference.predict_proba(given), atol=1e-5
    )
    assert list(model.predict(given)) == list(reference.predict(given))
    assert model.score(given, reference.predict(given)) == 1
    assert model.predict_proba([]).shape == (0, 3)


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run, tmp_path):
    one, other = (export(run, out=tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert one == other


@pytest.mark.slow
def test_the_file_needs_no_torch_and_onnxruntime_writes_no_identifier(run, tmp_path):
    model, image = export(run, out=tmp_path / "model.onnx"), tmp_path / "a.png"
    (home := tmp_path / "home").mkdir()
    names = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA", "USERPROFILE")
    own = dict(os.environ) | dict.fromkeys(names, str(home))
    del own["ORT_DISABLE_TELEMETRY"]
    image.write_bytes(encoded(smooth()))
    code = (
        "import sys, alexnet\nfrom alexnet.cli import main\n"
        f"assert main(['predict', {str(model)!r}, {str(image)!r}]) == 0\n"
        f"alexnet.load({str(model)!r}).predict({str(image)!r})\n"
        "heavy = {'torch', 'onnx', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own)
    assert result.returncode == 0, result.stderr
    assert not list(home.iterdir())


@pytest.mark.slow
def test_a_run_is_loaded_without_what_training_needs(run):
    code = (
        f"import sys, alexnet\nalexnet.load({str(run)!r}).predict_proba([])\n"
        "heavy = {'sklearn', 'scipy', 'matplotlib', 'tensorboard', 'sympy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_pt2(run, tmp_path):
    path = export(run, format="pt2", out=tmp_path / "model.pt2")
    words = {"alexnet.json": ""}
    module = torch.export.load(str(path), extra_files=words).module()
    assert json.loads(words["alexnet.json"])["names"] == ["cat", "dog", "eel"]
    image = np.array(noise(1, (50, 70)))
    found = module(torch.from_numpy(image)[None])
    expected = alexnet.load(run, precision="fp32").predict_proba(image)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    with pytest.raises(InputError, match="int8 is for ONNX"):
        export(run, format="pt2", int8=True)


@pytest.mark.slow
def test_int8_is_smaller_and_says_what_it_costs(run, tmp_path, capsys):
    whole, small = (export(run, out=tmp_path / f"{int8}.onnx", int8=int8) for int8 in (False, True))
    exported: Any = alexnet.load(small)
    cost = exported.about["int8"]
    assert cost["n"] == alexnet.load(run).metrics["n"] and cost["split"] == "test"
    assert cost["top1_float32"] == alexnet.evaluate(run, precision="fp32")["top1"]
    assert "8 bits: top-1" in capsys.readouterr().err
    kinds = {one.data_type for one in onnx.load(small).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds and whole.exists()
    image = smooth()
    trained = RunDirectory(run).load()
    round_weights(trained.model)
    expected = RunClassifier(trained, device="cpu", precision="fp32").predict_proba(image)
    np.testing.assert_allclose(alexnet.load(small).predict_proba(image), expected, atol=1e-5)


def test_int8_takes_a_quarter_of_the_room():
    trained = trained_of(*VARIANTS["2012"])
    sizes = [len(onnx_bytes(trained, about(trained), int8=int8)) for int8 in (False, True)]
    linear = sum(one.weight.numel() for one in trained.model.classifier if hasattr(one, "weight"))
    assert linear > 100_000 and abs(sizes[0] - sizes[1] - 3 * linear) < 10_000


def test_rounded_weights_are_within_half_a_step():
    weight = torch.randn(5, 30)
    weight[3] = 0
    steps, scale = quantised(weight)
    assert steps.dtype == torch.int8 and (steps.abs().amax(1)[[0, 1, 2, 4]] == 127).all()
    assert ((steps * scale[:, None] - weight).abs() <= scale[:, None] / 2 + 1e-6).all()
    assert (steps[3] == 0).all() and torch.isfinite(scale).all()


@pytest.mark.slow
def test_data_that_is_gone(run, tmp_path, capsys, monkeypatch):
    copied = tmp_path / "run"
    copied.mkdir()
    for name in ("best.safetensors", "environment.json"):
        (copied / name).write_bytes((run / name).read_bytes())
    recipe = json.loads((run / "recipe.json").read_text())
    (copied / "recipe.json").write_text(json.dumps(recipe | {"data": str(tmp_path / "gone")}))
    path = export(copied)
    assert path == copied / "model.onnx"
    assert "made-up images, because the data of the run is not there" in capsys.readouterr().err
    model: Any = alexnet.load(path)
    assert model.about["licence"] == NOT_STATED
    with pytest.raises(RunError, match="holds no figures"):
        _ = model.metrics
    with pytest.raises(DataError):
        export(copied, int8=True)


def test_a_file_that_says_something_else_is_not_left(run, tmp_path, monkeypatch):
    path = tmp_path / "out" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"as before")
    monkeypatch.setattr(
        "alexnet.exporting.export.OnnxClassifier.run", lambda self, images: np.full((1, 3), np.nan)
    )
    with pytest.raises(AlexNetError, match="does not say what the run says") as caught:
        export(run, out=path)
    assert "Nothing was written" in caught.value.hint
    assert path.read_bytes() == b"as before" and list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_verifying_notices_a_small_difference(run):
    trained = RunDirectory(run).load()
    samples, _ = sample_images(None, 32)
    reference = RunClassifier(trained, device="cpu", precision="fp32")

    def off(images):
        return reference.predict_proba(list(images)) + np.float32(0.002)

    with pytest.raises(AlexNetError, match=r"differ by at most 2\.0e-03, expected 1e-03"):
        verify(off, trained, samples, "it", "images")


def test_class_names_are_kept_whatever_they_hold(tmp_path):
    trained = trained_of(architecture("small", width=0.1), PLAIN, len(HOSTILE), HOSTILE)
    classifier = OnnxClassifier(onnx_bytes(trained, about(trained)))
    assert classifier.names == HOSTILE == list(classifier.classes_)


@pytest.fixture
def exported(tmp_path):
    trained = trained_of(architecture("small", width=0.1), PLAIN)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(trained, about(trained)))
    return path


def test_damaged_files(exported, capfd):
    content = exported.read_bytes()
    for damaged in (b"", b"no onnx", content[: len(content) // 2], content[:-1]):
        exported.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model\.onnx (cannot be read as ONNX|was not)"):
            alexnet.load(exported)
    assert not capfd.readouterr().err  # nothing of onnxruntime's own
    with pytest.raises(WeightsError, match="there is no file"):
        alexnet.load(exported.parent / "none.onnx")


@pytest.mark.parametrize(
    "change",
    [
        lambda words: None,
        lambda words: "{",
        lambda words: "[]",
        lambda words: words.replace('"version": 1', '"version": 99'),
        lambda words: words.replace('"names"', '"nomen"'),
        lambda words: words.replace(', "class 3"', ""),
        lambda words: words.replace('"image_size": 32', '"image_size": []'),
    ],
)
def test_files_of_other_programs(exported, change):
    model = onnx.load(exported)
    words = change(model.metadata_props[0].value.replace('"crc32"', '"sum"'))  # has none
    del model.metadata_props[:]
    if words is not None:
        onnx.helper.set_model_props(model, {"alexnet": words})
    onnx.save(model, exported)
    with pytest.raises(WeightsError, match="was not written by this alexnet"):
        alexnet.load(exported)


def test_a_file_runs_on_the_cpu(exported):
    with pytest.raises(RecipeError, match="device is 'cuda'"):
        alexnet.load(exported, device="cuda")
    with pytest.raises(RecipeError, match="precision is 'bf16'"):
        alexnet.load(exported, precision="bf16")


def test_missing_packages(run, exported, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="needs packages") as caught:
        alexnet.load(exported)
    assert "alexnet[export]" in caught.value.hint
    with pytest.raises(InputError, match="alexnet export needs packages"):
        export(run)


# putting it to work


def test_standard_input(exported, capsys, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(encoded(smooth()))

    monkeypatch.setattr("sys.stdin", Stdin)
    assert cli.main(["predict", str(exported), "-", "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith("-: class ")
    Stdin.buffer = io.BytesIO(b"")
    assert cli.main(["predict", str(exported), "-"]) == 2
    assert "standard input cannot be used: the file is empty" in capsys.readouterr().err
    assert cli.main(["predict", str(exported), "-", "--copy-to", "x"]) == 2
    assert "standard input is no file" in capsys.readouterr().err


def test_patterns(tmp_path, monkeypatch):
    for name in ("a/2.png", "a/10.png", "a/b/1.png", "a/x.txt", "[1].png", "-"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in image_files(["a/*.png"])] == ["2.png", "10.png"]
    assert [str(one) for one in image_files(["a/**/*.png"])][:1] == ["a/2.png"]
    assert len(image_files(["a/**/*.png"])) == 3
    assert [str(one) for one in image_files(["[1].png"])] == ["[1].png"]
    assert image_files(["./-"]) == [tmp_path / "-"]
    with pytest.raises(DataError, match=r"nothing fits the pattern a/\*.gif"):
        image_files(["a/*.gif"])


def test_tables_on_standard_output(exported, tmp_path, capsys):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encoded(smooth()))
    bad.write_bytes(b"nothing")
    assert cli.main(["predict", str(exported), str(bad), str(good), "--csv", "--top", "1"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "image,error,class_1,name_1,p_1" and len(lines) == 3
    assert lines[1].startswith(f"{bad},") and lines[2].startswith(f"{good},,class ")
    assert "1 of 2 files could not be used" in told.err
    assert cli.main(["predict", str(exported), str(good), "--csv", "--json"]) == 2
    assert "Choose one" in capsys.readouterr().err


def test_copies_never_overwrite(exported, tmp_path, capsys):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").write_bytes(encoded(smooth()))
    (tmp_path / "two" / "broken.png").write_bytes(b"nothing")
    before = {one: one.read_bytes() for one in tmp_path.glob("*/*.png")}
    command = ["predict", str(exported), str(tmp_path / "one"), str(tmp_path / "two")]
    for _ in range(2):
        assert cli.main([*command, "--copy-to", str(tmp_path / "sorted")]) == 0
    told = capsys.readouterr()
    assert not told.out and "2 files copied into folders of" in told.err
    [folder] = (tmp_path / "sorted").glob("[!.]*")
    assert sorted(one.name for one in folder.iterdir()) == [
        "a-2.png", "a-3.png", "a-4.png", "a.png",
    ]  # fmt: skip
    assert len({one.read_bytes() for one in folder.iterdir()}) == 1
    assert {one: one.read_bytes() for one in before} == before


@given(st.lists(st.text(max_size=80), max_size=12))
def test_class_names_make_folders(names):
    found = folder_names([*HOSTILE, "Con", "con.txt", "a", "A", *names])
    assert len({one.casefold() for one in found}) == len(found)
    for one in found:
        assert one not in ("", ".", "..") and not set(one) & set('/\\:*?"<>|\n\0')
        assert one == one.strip() and not one.endswith(".") and len(one.encode()) < 256
        assert one.split(".")[0].casefold() not in ("con", "nul", "aux", "prn")


def test_copies_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    copies = Copies(tmp_path / "file", ["a"])
    with pytest.raises(AlexNetError, match="cannot write"):
        copies.add(tmp_path / "file", 0)


def test_an_image_opened_lazily_stays_as_it_was(exported):
    image = Image.open(io.BytesIO(encoded(smooth((300, 200)), "JPEG")))
    alexnet.load(exported).predict_proba(image)
    assert image.size == (300, 200)


def test_loading_draws_no_random_numbers(tmp_path):
    network_of(tmp_path / "a.safetensors", architecture("small", width=0.1), 3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load_model(tmp_path / "a.safetensors")
    assert (torch.get_rng_state() == before).all()
