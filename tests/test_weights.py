"""Named weights: imported from what people have, refused when they are not what they seem."""

import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
import torch
import torchvision
from makers import network_of
from safetensors.torch import save_file
from torch import nn

from alexnet.data.fetch import Download
from alexnet.errors import DownloadError, WeightsError
from alexnet.network import weights
from alexnet.network.checkpoint import load_model, load_network, save_network
from alexnet.network.description import ARCHITECTURES, architecture
from alexnet.network.model import AlexNet
from alexnet.network.weight_names import SHIPPED, named_weights, weights_folder
from alexnet.network.weights import carry_over, fetch_weights, find_weights, import_weights, listing

# a network with the 2014 network's layers, small enough for a test
SMALL_2014 = architecture("2014", width=0.1)


@pytest.fixture
def family(monkeypatch):
    """The family with narrow networks, so that files are small."""
    narrow = {name: architecture(name, width=0.1) for name in ARCHITECTURES}
    monkeypatch.setattr(weights, "ARCHITECTURES", narrow)
    return narrow


@pytest.mark.slow
def test_a_state_dict_of_torchvisions_network_is_the_2014_network(tmp_path):
    with torch.device("meta"):
        theirs = torchvision.models.alexnet(weights=None)
    state = {name: torch.zeros(one.shape) for name, one in theirs.state_dict().items()}
    state["features.0.weight"][3, 1, 2, 4] = 7.0
    assert weights.recognise(state, "x").name == "2014"
    only_convolutions = {name: one for name, one in state.items() if "features" in name}
    torch.save(only_convolutions, tmp_path / "convolutions.pth")
    path = import_weights(tmp_path / "convolutions.pth", "convolutions")
    network = load_network(path)
    assert network.architecture == ARCHITECTURES["2014"]
    assert network.tensors["features.0.weight"][3, 1, 2, 4] == 7
    assert (network.preprocessing.image_size, network.preprocessing.crop) == (256, 224)
    assert [name for name, _ in listing()] == ["convolutions", "backbone", "imagenet-2014"]


@pytest.mark.parametrize("kind", ["pth", "wrapped.pth", "parallel.pth", "safetensors"])
def test_the_same_weights_from_every_kind_of_file(kind, family, tmp_path):
    state = AlexNet(family["2014"], 5).state_dict()
    file = tmp_path / kind
    if kind == "safetensors":
        file = tmp_path / "them.safetensors"
        save_file(state, file)
    elif kind == "wrapped.pth":
        torch.save({"epoch": 3, "state_dict": state}, file)
    elif kind == "parallel.pth":
        torch.save({f"module.{name}": one for name, one in state.items()}, file)
    else:
        file = tmp_path / "them.pth"
        torch.save(state, file)
    network = find_weights(import_weights(file, "them").stem)
    assert network.architecture.name == "2014"
    assert all(torch.equal(network.tensors[name], state[name]) for name in state)


def bvlc_file(path, family, **changes):
    generator = np.random.default_rng(0)
    arrays = {}
    with torch.device("meta"):
        model = AlexNet(family["2012"], 1000)
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    for name, layer in zip(
        "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8".split(), layers, strict=True
    ):
        if name not in ("fc6", "fc7"):
            shape = tuple(layer.weight.shape)
            arrays[f"{name}_w"] = generator.integers(-60, 60, shape).astype(np.int8)
        arrays[f"{name}_b"] = generator.integers(-60, 60, tuple(layer.bias.shape)).astype(np.int16)
    arrays = {name: one for name, one in (arrays | changes).items() if one is not None}
    np.savez(path, allow_pickle=False, **arrays)
    return arrays


def test_bvlcs_network_sees_rgb(family, tmp_path):
    arrays = bvlc_file(tmp_path / "bvlc.npz", family)
    network = load_network(import_weights(tmp_path / "bvlc.npz", "bvlc"))
    assert network.architecture.lrn_k == 1
    assert "classifier.6.weight" in network.tensors
    assert "classifier.0.weight" not in network.tensors  # a bias alone is no layer
    # the same numbers as theirs, computed as they do: BGR, 0 to 255, minus the mean
    rgb = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(0))
    theirs = nn.functional.conv2d(
        rgb.flip(1).float() - torch.tensor([104.0, 117, 123]).view(1, 3, 1, 1),
        torch.from_numpy(arrays["conv1_w"] / np.float32(128)),
        torch.from_numpy(arrays["conv1_b"] / np.float32(128)),
        stride=4,
    )
    how = network.preprocessing
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (how.mean, how.std))
    ours = nn.functional.conv2d(
        (rgb / 255 - mean) / std,
        network.tensors["features.0.weight"],
        network.tensors["features.0.bias"],
        stride=4,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1_w": None}, "has no conv1_w"),
        ({"conv2_b": None}, "has conv2_w but no conv2_b"),
        ({"conv1_w": np.zeros((96, 3, 5, 5), np.int8)}, "features.0.weight is \\(96, 3, 5, 5\\)"),
    ],
)
def test_another_npz_is_refused(changes, message, family, tmp_path):
    bvlc_file(tmp_path / "bvlc.npz", family, **changes)
    with pytest.raises(WeightsError, match=message) as caught:
        import_weights(tmp_path / "bvlc.npz", "bvlc")
    assert caught.value.hint
    assert named_weights() == SHIPPED


class Code:
    def __reduce__(self):
        return (print, ("this ran",))


def test_a_file_with_code_in_it_is_not_run(tmp_path, capsys):
    torch.save({"a": torch.zeros(1), "b": Code()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    for name in ("evil", "plain"):
        with pytest.raises(WeightsError, match="code that would run") as caught:
            import_weights(tmp_path / f"{name}.pth", "evil")
        assert "safetensors.torch.save_file" in caught.value.hint
    assert "this ran" not in capsys.readouterr().out


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("them.pth", cut, "cannot be read"),
        ("them.pth", lambda path: path.write_bytes(b""), "cannot be read|not a file of torch"),
        ("them.pth", lambda path: path.write_text("<html>"), "not a file of torch.save"),
        ("them.pth", lambda path: torch.save([1, 2], path), "holds no state dict"),
        ("them.pth", lambda path: torch.save({"a": torch.zeros(3)}, path), "of no network"),
        ("them.safetensors", cut, "cannot be read as safetensors"),
        ("them.npz", cut, "cannot be read"),
        ("them.npz", lambda path: path.write_bytes(b"nothing"), "cannot be read"),
        ("them.h5", lambda path: path.write_bytes(b"x"), "of a kind that is not known"),
        ("them.pth", lambda path: path.unlink(), "there is no file"),
    ],
)
def test_damaged_files_are_refused(name, damage, message, family, tmp_path):
    path = tmp_path / name
    state = AlexNet(family["2014"], 5).state_dict()
    if name.endswith("npz"):
        bvlc_file(path, family)
    elif name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path)
    damage(path)
    with pytest.raises(WeightsError, match=message) as caught:
        import_weights(path, "them")
    assert caught.value.hint
    assert named_weights() == SHIPPED


def test_layers_that_do_not_fit_are_named(family, tmp_path):
    state = AlexNet(family["2014"], 5).state_dict()
    state["features.3.weight"] = torch.zeros(24, 8, 3, 3)
    torch.save(state, tmp_path / "them.pth")
    with pytest.raises(WeightsError, match=r"features.3.weight is \(24, 8, 3, 3\), expected"):
        import_weights(tmp_path / "them.pth", "them")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_names_that_are_no_names(name, tmp_path):
    with pytest.raises(WeightsError, match="cannot be a name"):
        import_weights(tmp_path / "them.pth", name)


def test_other_weights_of_a_name_are_never_replaced(family, tmp_path):
    torch.manual_seed(0)
    torch.save(AlexNet(family["2014"], 5).state_dict(), tmp_path / "one.pth")
    torch.save(AlexNet(family["2014"], 5).state_dict(), tmp_path / "two.pth")
    path = import_weights(tmp_path / "one.pth", "them")
    assert import_weights(tmp_path / "one.pth", "them") == path
    with pytest.raises(WeightsError, match="other weights named them"):
        import_weights(tmp_path / "two.pth", "them")


def test_weights_that_are_not_there():
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        find_weights("imagenet-2014")
    assert "alexnet weights fetch imagenet-2014" in caught.value.hint
    with pytest.raises(WeightsError, match="no weights 'imagenet-2041'") as caught:
        find_weights("imagenet-2041")
    assert "imagenet-2014" in caught.value.hint
    with pytest.raises(WeightsError, match="there is no weights file"):
        find_weights("./imagenet-2014")


def test_damaged_named_weights_are_listed_as_such(tmp_path):
    network_of(weights_folder() / "mine.safetensors", SMALL_2014, 3)
    cut(weights_folder() / "mine.safetensors")
    assert dict(listing())["mine"].startswith("damaged: ")
    with pytest.raises(WeightsError, match="cannot be read"):
        find_weights("mine")


# -- fetching


@pytest.fixture
def official(family, tmp_path, monkeypatch):
    """A state dict that stands for the official file, and its description."""
    file = tmp_path / "official.pth"
    torch.save(AlexNet(family["2014"], 5).state_dict(), file)
    content = file.read_bytes()
    download = Download(
        file="official.pth", url=file.as_uri(), size=len(content), algorithm="sha256",
        checksum=hashlib.sha256(content).hexdigest(), instead="run: alexnet weights import FILE",
    )  # fmt: skip
    monkeypatch.setattr(weights, "OFFICIAL", {"official": download})
    return download


def test_fetched_weights_are_kept_as_safetensors(official):
    path = fetch_weights("official")
    assert find_weights("official").architecture.name == "2014"
    before = path.stat().st_mtime_ns
    assert fetch_weights("official") == path
    assert path.stat().st_mtime_ns == before
    assert not list((path.parent.parent / "downloads").iterdir())


@pytest.mark.parametrize(
    "change", [{"size": 7}, {"checksum": "0" * 64}, {"size": 10_000_000}], ids=str
)
def test_a_file_of_another_size_or_checksum_is_refused(change, official, monkeypatch):
    monkeypatch.setattr(weights, "OFFICIAL", {"official": dataclasses.replace(official, **change)})
    with pytest.raises(DownloadError):
        fetch_weights("official")
    assert named_weights() == SHIPPED


def test_what_is_imported_as_official_is_that_file_or_said_to_be_another(
    official, family, tmp_path, capsys
):
    other = tmp_path / "other.pth"
    torch.save(AlexNet(family["2014"], 6).state_dict(), other)
    import_weights(other, "official")
    assert "other.pth is not the official file of official" in capsys.readouterr().err
    named_weights()["official"].unlink()
    import_weights(tmp_path / "official.pth", "official")
    import_weights(other, "mine")
    assert "not the official file" not in capsys.readouterr().err


def test_without_a_network_it_says_what_to_do_instead(official, monkeypatch):
    there_is_none = dataclasses.replace(official, url="http://127.0.0.1:9/official.pth")
    monkeypatch.setattr(weights, "OFFICIAL", {"official": there_is_none})
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        fetch_weights("official")
    assert "alexnet weights import FILE" in caught.value.hint
    with pytest.raises(WeightsError, match="no official weights 'offical'"):
        fetch_weights("offical")


# -- into a network


def fresh_model(classes=4, **changes):
    torch.manual_seed(1)
    return AlexNet(architecture(SMALL_2014, **changes), classes)


def test_everything_is_taken_where_the_classes_are_the_same(tmp_path):
    network = network_of(tmp_path / "w.safetensors", SMALL_2014, 4)
    model = fresh_model()
    assert carry_over(model, network, network.classes) == []
    assert all(torch.equal(one, network.tensors[k]) for k, one in model.state_dict().items())


def test_new_classes_start_the_last_layer_fresh(tmp_path):
    network = network_of(tmp_path / "w.safetensors", SMALL_2014, 4)
    assert carry_over(fresh_model(), network, ["other"] * 4) == ["classifier.6"]
    model = fresh_model(classes=9)
    before = model.classifier[6].weight.clone()
    assert carry_over(model, network, ["other"] * 9) == ["classifier.6"]
    assert torch.equal(model.classifier[6].weight, before)
    assert torch.equal(model.classifier[4].weight, network.tensors["classifier.4.weight"])


@pytest.mark.parametrize(
    "changes", [{"fc_layers": 1}, {"hidden": 24}, {"fc_norm": "batch"}, {"map_side": 1}]
)
def test_another_classifier_starts_fresh_as_a_whole(changes, tmp_path):
    network = network_of(tmp_path / "w.safetensors", SMALL_2014, 4)
    model = fresh_model(**changes)
    fresh = carry_over(model, network, network.classes)
    layers = {name.rpartition(".")[0] for name in model.state_dict()}
    assert set(fresh) == {name for name in layers if name.startswith("classifier.")}


def test_what_lies_above_a_missing_layer_starts_fresh_too(tmp_path):
    network = network_of(tmp_path / "w.safetensors", SMALL_2014, 4)
    for name in ("classifier.1.weight", "classifier.1.bias"):
        del network.tensors[name]
    model = fresh_model()
    assert carry_over(model, network, network.classes) == [
        "classifier.1", "classifier.4", "classifier.6",
    ]  # fmt: skip


def test_other_convolutions_are_an_error_that_names_them(tmp_path):
    network = network_of(tmp_path / "w.safetensors", SMALL_2014, 4)
    wide = AlexNet(architecture("2014", width=0.2), 4)
    with pytest.raises(WeightsError, match=r"features.0.weight is \(8, .*expected \(16"):
        carry_over(wide, network, network.classes)


def test_weights_without_classes_cannot_predict(tmp_path):
    network = network_of(tmp_path / "w.safetensors", SMALL_2014, 4)
    nameless = dataclasses.replace(network, classes=[], names=[])
    save_network(tmp_path / "nameless.safetensors", nameless)
    with pytest.raises(WeightsError, match="for starting from"):
        load_model(tmp_path / "nameless.safetensors")
