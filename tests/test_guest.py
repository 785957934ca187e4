"""A guest in somebody else's program: what it leaves as it was, how it speaks, how it travels."""

import contextlib
import copy
import io
import json
import logging
import multiprocessing
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from makers import class_folders, encoded, noise
from torch import nn

import alexnet
from alexnet import console
from alexnet.checking.check import check
from alexnet.classification.onnx_classifier import OnnxClassifier
from alexnet.cli import main
from alexnet.console import redirected, say, warn
from alexnet.errors import DataError, RunError, WeightsError
from alexnet.explaining.panels import explain_files
from alexnet.exporting.export import export, onnx_bytes
from alexnet.network.checkpoint import Network, load_model, save_network
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet
from alexnet.recipes import Recipe
from alexnet.reporting.report import write_report
from alexnet.runtime import CUBLAS, as_found, yielding_as_found
from alexnet.sweeping.sweep import sweep

IDENTIFIERS = ["7", "n01", "n02", "n03"]
NAMES = ["seven", "goldfish", "crane", "crane"]
HOW = Preprocessing(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 2)
BRIEF = Recipe().replace(
    image_size=16, pool="max", width=0.1, batch_size=8, epochs=1, tensorboard=False, report=False
)  # fmt: skip


def weights_of(path, classes=IDENTIFIERS, names=NAMES):
    """Writes the weights of a small network whose classes have names of their own."""
    torch.manual_seed(0)
    model = AlexNet(architecture("small", width=0.1, pool="max"), len(classes))
    description = model.architecture
    save_network(path, Network(path, description, model.state_dict(), classes, names, HOW))
    return path


@pytest.fixture
def classifier(tmp_path):
    return alexnet.load(weights_of(tmp_path / "best.safetensors"))


@pytest.fixture
def exported(tmp_path):
    """The path of an exported file."""
    trained = load_model(weights_of(tmp_path / "best.safetensors"))
    about = {"version": 1, "classes": trained.classes, "names": trained.names}
    about |= {"preprocessing": HOW.to_dict(), "metrics": {"top1": 0.5}}
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(trained, about))
    return path


IMAGES = [encoded(noise(seed, (20, 16))) for seed in range(9)]


# -- what a process shares -------------------------------------------------------------------------


def shared():
    """Everything that calls leave as it was."""
    _, numbers, *place = np.random.get_state()
    return {
        "torch": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "numpy": (numbers.tolist(), place),
        "random": random.getstate(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "threads": torch.get_num_threads(),
        "filters": list(warnings.filters),
        "handlers": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "matplotlib": dict(dict.items(mpl.rcParams)),
        "cublas": os.environ.get(CUBLAS),
        "grad": torch.is_grad_enabled(),
    }


def stir():
    """Changes everything."""
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled())
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic = True
    torch.set_num_threads(torch.get_num_threads() + 1)
    warnings.simplefilter("always")
    signal.signal(signal.SIGINT, lambda *_: None)
    mpl.rcParams["lines.linewidth"] = 77
    os.environ[CUBLAS] = ":16:8"


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_found_is_put_back(fails):
    before = shared()
    with contextlib.suppress(ZeroDivisionError), as_found():
        stir()
        assert all(before[key] != now for key, now in shared().items() if key not in UNSTIRRED)
        if fails:
            1 / 0  # noqa: B018
    assert shared() == before


UNSTIRRED = ("grad", "warn only")


def test_a_users_own_choices_are_put_back(monkeypatch):
    monkeypatch.setenv(CUBLAS, ":16:8")
    with as_found():  # what stir leaves is the test's own mess
        stir()
        torch.use_deterministic_algorithms(True, warn_only=True)
        before = shared()
        with as_found():
            torch.use_deterministic_algorithms(True)
            del os.environ[CUBLAS]
            signal.signal(signal.SIGINT, signal.default_int_handler)
        assert shared() == before


def test_a_generator_leaves_no_trace_between_its_steps():
    ended = []

    @yielding_as_found
    def steps(count):
        try:
            for number in range(count):
                stir()
                yield number
        finally:
            ended.append(count)

    before = shared()
    for number in steps(3):
        assert shared() == before
        if number == 1:
            break
    assert ended == [3] and shared() == before
    assert list(steps(2)) == [0, 1] and shared() == before


def test_a_gpu_that_is_used_for_the_first_time_begins_as_the_user_seeded_it(monkeypatch):
    used, seeded = [], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(used))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with as_found():
        torch.manual_seed(77)
        seeded.clear()
        with as_found():
            used.append(True)
            torch.manual_seed(5)
            monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["state"])
        assert seeded[-1] == 77
        found = []
        monkeypatch.setattr(torch.cuda, "set_rng_state_all", found.append)
        with as_found():
            pass
        assert found == [["state"]]
        used.clear()


def test_finding_and_putting_back_take_less_than_a_millisecond():
    times = []
    for _ in range(20):
        start = time.perf_counter()
        with as_found():
            pass
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on two kinds of pictures, its deterministic choices put back."""
    here = tmp_path_factory.mktemp("guest")
    folder = class_folders(here / "photos", {"cat": 12, "dog": 12}, (20, 16))
    with as_found(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE", str(here / "cache"))
        return alexnet.train(folder, BRIEF, out=here / "run")


def explain(run, tmp_path):
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    for _ in explain_files(run, tmp_path / "a.png", tmp_path / "out"):
        pass


CALLS = {
    "load": lambda run, folder: alexnet.load(run),
    "predict": lambda run, folder: alexnet.load(run).predict(IMAGES),
    "evaluate": lambda run, folder: alexnet.evaluate(run),
    "export": lambda run, folder: export(run, out=folder / "model.onnx"),
    "report": lambda run, folder: write_report(run, folder / "report.html"),
    "check": lambda run, folder: check(str(run.parent / "photos"), image_size=16),
    "explain": explain,
    "train": lambda run, folder: alexnet.train(
        run.parent / "photos",
        alexnet.Recipe(epochs=1, image_size=32, width=0.1, deterministic=True, report=False),
        out=folder / "trained",
    ),
    "sweep": lambda run, folder: sweep(
        run.parent / "photos",
        alexnet.Recipe(epochs=1, image_size=32, width=0.1, report=False),
        {"lr": [0.1, 0.05]},
        out=folder / "swept",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_every_call_leaves_the_program_as_it_found_it(run, tmp_path, call):
    with as_found():  # choices of the user's own, which end with this test
        torch.manual_seed(77)
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
        mpl.rcParams["lines.linewidth"] = 3
        before = shared()
        CALLS[call](run, tmp_path)
        assert shared() == before


# -- messages --------------------------------------------------------------------------------------


@contextlib.contextmanager
def handling(logger="", level=logging.NOTSET):
    """A program with a handler of its own; yields the records that it gets."""
    records, handler, logger = [], logging.Handler(), logging.getLogger(logger)
    handler.emit = records.append
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@pytest.fixture
def level():
    """Sets the level of our logger, for one test."""
    logger = logging.getLogger("alexnet")
    yield logger.setLevel
    logger.setLevel(logging.NOTSET)


def test_a_program_without_logging_reads_messages_on_stderr(capsys):
    say("hello [bold]there[/bold]")
    warn("careful")
    told = capsys.readouterr()
    assert told.err == "hello [bold]there[/bold]\ncareful\n" and not told.out


def test_a_program_with_logging_gets_records_and_stderr_stays_empty(capsys):
    with handling(level=logging.INFO) as records:
        say("hello %s", logging.INFO)
        warn("careful")
    assert capsys.readouterr().err == ""
    assert [(one.name, one.levelname, one.getMessage()) for one in records] == [
        ("alexnet", "INFO", "hello %s"),
        ("alexnet", "WARNING", "careful"),
    ]
    assert {one.funcName for one in records} == {
        "test_a_program_with_logging_gets_records_and_stderr_stays_empty"
    }


def test_levels_are_those_of_any_library():
    with handling(level=logging.WARNING) as records:
        say("hello")
        warn("careful")
    assert [one.getMessage() for one in records] == ["careful"]


def test_a_handler_on_our_logger_is_enough(capsys):
    with handling("alexnet", logging.INFO) as records:
        say("hello")
    assert capsys.readouterr().err == "" and len(records) == 1


def test_a_level_silences_lines_and_bars(capsys, level, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.progress("working", 2) as advance:
        advance(1)
    assert "working" in capsys.readouterr().err
    level(logging.WARNING)
    say("hello")
    with console.progress("working", 2) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    warn("careful")
    assert capsys.readouterr().err == "careful\n"


def test_logging_disabled_is_silence(capsys):
    logging.disable(logging.INFO)
    try:
        say("hello")
    finally:
        logging.disable(logging.NOTSET)
    assert capsys.readouterr().err == ""


def test_bars_are_for_terminals_only(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks do
    with console.progress("working", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_the_command_line_always_prints(capsys, level):
    level(logging.ERROR)
    with handling(level=logging.CRITICAL) as records:
        assert main(["recipes", "digits"]) == 0
        with console.on_console():
            say("hello")
    assert capsys.readouterr().err.endswith("hello\n") and not records


def test_what_is_redirected_goes_to_the_file_whatever_logging_says(capsys):
    file = io.StringIO()
    with handling(level=logging.CRITICAL), redirected(file):
        say("hello")
    assert file.getvalue() == "hello\n" and capsys.readouterr().err == ""


def test_a_table_is_one_record_of_plain_text():
    with handling(level=logging.INFO) as records:
        say(console.table(["class", "images"], [["cat", "7"]]))
    [record] = records
    assert record.getMessage() == "  class  images\n  cat         7"


# -- classifiers that travel -----------------------------------------------------------------------


def classifiers(classifier, exported):
    return [classifier, alexnet.load(exported), OnnxClassifier(exported.read_bytes())]


def test_pickles_and_copies_answer_the_same_in_every_bit(classifier, exported):
    for one in classifiers(classifier, exported):
        expected = one.predict_proba(IMAGES)
        for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
            assert type(other) is type(one) and other is not one
            assert other.predict_proba(IMAGES).tobytes() == expected.tobytes()
            assert (other.classes, other.names) == (one.classes, one.names)


def test_a_pickle_works_where_there_is_no_file(classifier, exported):
    one = alexnet.load(exported)
    pickles = [pickle.dumps(classifier), pickle.dumps(one)]
    expected = [classifier.predict_proba(IMAGES), one.predict_proba(IMAGES)]
    exported.unlink()
    (exported.parent / "best.safetensors").unlink()
    for content, p in zip(pickles, expected, strict=True):
        assert (pickle.loads(content).predict_proba(IMAGES) == p).all()
    with pytest.raises(WeightsError, match="has changed since it was loaded"):
        pickle.dumps(one)
    assert pickle.loads(pickles[1]).metrics == {"top1": 0.5}


def test_a_device_that_is_not_there_is_chosen_again(classifier):
    classifier.asked = ("cuda:77", "auto")
    assert pickle.loads(pickle.dumps(classifier)).device.type in ("cpu", "cuda")


def test_a_pickle_of_an_earlier_pickle_is_the_same(classifier):
    once = pickle.dumps(classifier)
    assert pickle.dumps(pickle.loads(once)) == once


@pytest.mark.slow
def test_threads_get_the_answers_that_one_gets(classifier, exported):
    for one in (classifier, alexnet.load(exported)):
        expected = [one.predict_proba(image) for image in IMAGES]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(one.predict_proba, IMAGES * 8))
        assert (np.stack(found) == np.stack(expected * 8)).all()


@pytest.mark.slow
def test_pools_and_joblib_take_classifiers(classifier, exported):
    import joblib
    from joblib.externals.loky import get_reusable_executor

    for one in (classifier, alexnet.load(exported)):
        expected = one.predict_proba(IMAGES[:3]).tobytes()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            [found] = pool.map(one.predict_proba, [IMAGES[:3]])
        assert found.tobytes() == expected
        [found] = joblib.Parallel(n_jobs=2, backend="loky")(
            [joblib.delayed(one.predict_proba)(IMAGES[:3])]
        )
        assert found.tobytes() == expected
    # joblib keeps its processes for the next call: they would be children of the tests to come.
    get_reusable_executor().shutdown(wait=True)


FORKED = """
import os, signal, sys
import numpy as np
import alexnet
if not sys.argv[1].endswith(".onnx"):
    import torch
    torch.set_num_threads(2)
model = alexnet.load(sys.argv[1])
images = list(np.random.default_rng(0).integers(0, 256, (64, 40, 40, 3), dtype=np.uint8))
expected = model.predict(images)
assert ("torch" in sys.modules) != sys.argv[1].endswith(".onnx")
child = os.fork()
if not child:
    signal.alarm(60)
    again = alexnet.load(sys.argv[1]).predict(images)
    os._exit(0 if list(model.predict(images)) == list(expected) == list(again) else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", ["run", "exported"])
def test_a_forked_process_answers(classifier, exported, kind):
    path = exported if kind == "exported" else exported.parent / "best.safetensors"
    environment = {key: one for key, one in os.environ.items() if key != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", FORKED, str(path)], check=True, env=environment)


# -- identifiers and names -------------------------------------------------------------------------


def test_classes_are_identifiers_and_predictions_are_of_them(classifier, exported):
    for one in classifiers(classifier, exported):
        assert one.classes == IDENTIFIERS == one.classes_.tolist() and one.names == NAMES
        best = one.predict_proba(IMAGES).argmax(1)
        assert (one.classes_[best] == one.predict(IMAGES)).all()
        assert (np.array(NAMES)[best] == one.predict(IMAGES, names=True)).all()


def test_every_output_calls_them_the_same(classifier, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    words = ["predict", str(tmp_path / "best.safetensors"), str(tmp_path / "a.png")]
    assert main([*words, "--json"]) == 0
    top = json.loads(capsys.readouterr().out)["top"]
    assert {(one["class"], one["name"]) for one in top} == {*zip(IDENTIFIERS, NAMES, strict=True)}
    assert main([*words, "--csv", "--top", "1"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading == "image,error,class_1,name_1,p_1"
    assert line.split(",")[2:4] == [top[0]["class"], top[0]["name"]]
    assert main(words) == 0
    assert f": {top[0]['name']} " in capsys.readouterr().out


def test_score_takes_whatever_a_class_is_called_by(classifier):
    best = classifier.predict_proba(IMAGES).argmax(1)
    right = [IDENTIFIERS[k] for k in best]
    assert classifier.score(IMAGES, right) == 1
    assert classifier.score(IMAGES, np.array(right)) == 1
    names = [NAMES[k] if NAMES.count(NAMES[k]) == 1 else IDENTIFIERS[k] for k in best]
    assert classifier.score(IMAGES, iter(names)) == 1
    expected = float((best == 0).mean())
    for seven in (7, "7", np.int64(7), np.uint8(7), "seven", torch.tensor(7)):
        assert classifier.score(IMAGES, [seven] * len(IMAGES)) == expected
    assert classifier.score(IMAGES[0], right[0]) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["7"], "9 images and 1 label"),
        ("7", "9 images and 1 label"),
        (["7"] * 10, "9 images and 10 labels"),
        (["goldfisch"] * 9, "label 0: there is no class 'goldfisch'.\nDid you mean 'goldfish'"),
        (["7"] * 8 + ["crane"], "label 8: 2 classes are called 'crane'.\n.* n02, n03"),
        ([0] * 9, "label 0: there is no class 0.\nA number is the name of a class"),
        ([True] * 9, "label 0 is True"),
        ([7.5] * 9, "label 0 is 7.5"),
        ([None] * 9, "label 0 is None"),
        (np.eye(9), "label 0 is array"),
    ],
)
def test_score_refuses_what_it_does_not_know(classifier, labels, message):
    with pytest.raises(DataError, match=message):
        classifier.score(IMAGES, labels)


def test_nothing_is_no_score(classifier):
    with pytest.raises(DataError, match="0 images and 0 labels"):
        classifier.score([], [])


def test_numbers_are_names_of_classes_however_they_are_written(tmp_path):
    path = weights_of(tmp_path / "best.safetensors", ["007", "7", "08", "-1"], ["a", "b", "c", "d"])
    model = alexnet.load(path)
    assert model._labels([7, 8, -1, "c"]).tolist() == [1, 2, 3, 2]
    path = weights_of(tmp_path / "best.safetensors", ["007", "07"], ["a", "b"])
    with pytest.raises(DataError, match="no class 7"):
        alexnet.load(path).score(IMAGES[:1], [7])


# -- other things than classifiers -----------------------------------------------------------------


def test_other_things_are_not_loaded(tmp_path, exported):
    pytest.importorskip("onnx")
    import onnx

    foreign = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, [1])],
            [onnx.helper.make_tensor_value_info("y", 1, [1])],
        ),
        ir_version=9,
        opset_imports=[onnx.helper.make_opsetid("", 17)],
    )
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    (tmp_path / "sweep" / "trials" / "one").mkdir(parents=True)
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    class_folders(tmp_path / "photos", {"cat": 1, "dog": 1})
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "model.onnx").write_bytes(exported.read_bytes())
    for name, error, message in [
        ("sweep", RunError, r"is the directory of a sweep.*\n.*trials.NAME"),
        ("photos", RunError, r"is not a run directory.*\n.*train on it first"),
        ("site", RunError, r"is an exported page.*\n.*model.onnx"),
        ("missing", RunError, "there is nothing at"),
        ("missing.onnx", WeightsError, "there is no file"),
        ("foreign.onnx", WeightsError, "was not written by this alexnet"),
        ("weights.pth", WeightsError, r"cannot be read as safetensors.*\n.*weights import"),
        ("photos/cat/0.png", WeightsError, r"cannot be read as safetensors.*\nGive a run"),
    ]:
        with pytest.raises(error, match=message):
            alexnet.load(tmp_path / name)


# -- the loop, for networks and arrays of others ---------------------------------------------------


class Own(nn.Module):
    """Somebody's network."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))

    def forward(self, x):
        return self.layers(x)


def own_training(fit=alexnet.fit, epochs=6):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 6))
    y = (x[:, 0] > 0).astype(np.int32)
    network = Own()
    state = alexnet.State(network, torch.optim.SGD(network.parameters(), lr=1.0))
    train = alexnet.Batches.of_arrays(x[:60], y[:60], batch_size=8, shuffle=True)
    val = alexnet.Batches.of_arrays(torch.tensor(x[60:]), y[60:].tolist(), batch_size=30)
    rate = lambda progress, scores: 0.3  # noqa: E731
    return state, fit(state, train, val, epochs=epochs, rate=rate, loss=F.cross_entropy)


def test_fit_trains_a_network_of_ones_own_on_arrays(tmp_path):
    state, steps = own_training()
    epochs = list(steps)
    assert [one.epoch for one in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].val_top1 > 0.8 and epochs[-1].val_loss < epochs[0].val_loss
    half, steps = own_training(epochs=3)
    list(steps)
    half.save(tmp_path / "state.safetensors")
    going_on, steps = own_training()
    going_on.load(tmp_path / "state.safetensors")
    assert [one.epoch for one in steps] == [4, 5, 6]
    for own, other in zip(state.model.parameters(), going_on.model.parameters(), strict=True):
        assert torch.equal(own, other)


def test_fit_needs_nothing_between_its_steps():
    state, steps = own_training()
    list(steps)
    other, steps = own_training(yielding_as_found(alexnet.fit))
    before = shared()
    for _ in steps:
        assert shared() == before
        torch.rand(3)
        before = shared()
    for own, same in zip(state.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(own, same)


def test_arrays_become_batches():
    x = np.arange(24.0).reshape(8, 3)
    batches = alexnet.Batches.of_arrays(x, range(8), batch_size=3, transform=lambda x, g: x * 2)
    assert len(batches) == 3
    first_x, first_y = next(batches.epoch())
    assert (len(first_x), first_x.dtype, first_y.dtype) == (3, torch.float32, torch.int64)
    assert torch.equal(torch.cat([x for x, _ in batches.epoch()]), torch.tensor(x * 2).float())
    pixels = np.zeros((2, 3, 4, 4), np.uint8)
    [(x, _)] = alexnet.Batches.of_arrays(pixels, [0, 1], batch_size=5).epoch()
    assert x.dtype == torch.uint8
    shuffled = alexnet.Batches.of_arrays(x.numpy(), [0, 1], batch_size=1, shuffle=True, seed=3)
    orders = [[int(y) for _, y in shuffled.epoch(epoch)] for epoch in range(8)]
    assert [0, 1] in orders and [1, 0] in orders


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], r"expected 2 examples"),
        (np.zeros(3), [0, 1, 0], r"shape \(3,\), expected"),
        (np.array([["a"], ["b"]]), [0, 1], "expected 2 examples of numbers"),
        (np.zeros((2, 2)), ["cat", "dog"], "expected labels"),
        (np.zeros((2, 2)), [0.0, 1.0], "expected labels"),
        (np.zeros((2, 2)), [[1, 0], [0, 1]], "expected labels"),
        (np.zeros((2, 2)), [0, -1], "expected labels"),
        (np.zeros((0, 2)), np.zeros(0, int), "expected labels"),
    ],
)
def test_other_arrays_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        alexnet.Batches.of_arrays(x, y, batch_size=2)
    with pytest.raises(DataError, match="batch_size is 0"):
        alexnet.Batches.of_arrays(np.zeros((2, 2)), [0, 1], batch_size=0)


# -- the page --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_lines_of_the_page_run(tmp_path, monkeypatch, level):
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "photos", {"n01": 30, "n02": 30}, size=(20, 16))
    alexnet.train("photos", BRIEF, out="run")
    noise(0, (20, 16)).save(tmp_path / "new.jpg")
    namespace = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), namespace)
    assert namespace["epoch"].val_top1 > 0.8
