"""Around every test: a cache of its own, one thread, an order and random numbers that chance chose.

`pytest` is the fast tier, `pytest -m ""` everything; pyproject.toml says how.
"""

import functools
import os
import pickle
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

# for tensors as small as these a second thread only waits, and on a busy machine it waits long;
# said to the environment, and before torch is imported: workers and child processes hear it too
os.environ["OMP_NUM_THREADS"] = "1"
# Ray reads it when it is imported: under `uv run` it would install everything anew for its workers
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

# the tests import onnxruntime themselves, and it reports to its makers unless told before
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# where Python may not write bytecode beside the sources, every worker and every child process would
# compile all of torch again, for seconds each
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No worker beside this process where single files or tests are asked for: each takes seconds
    to start. One more than there are cores for the slow tests, which wait a sixth of their time for
    other processes. Otherwise xdist decides."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return 0
    return None if "not slow" in config.getoption("markexpr") else (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Each worker, which begins with its share of the tests, begins with its share of the slow
    ones, so that none is left alone with one at the end."""
    yield
    slow = [one for one in items if one.get_closest_marker("slow")]
    quick = [one for one in items if not one.get_closest_marker("slow")]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

    def share(tests: list[pytest.Item], place: int) -> list[pytest.Item]:
        return tests[len(tests) * place // workers : len(tests) * (place + 1) // workers]

    items[:] = [
        one for place in range(workers) for part in (slow, quick) for one in share(part, place)
    ]


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("numprocesses"):  # this process runs tests
        from hypothesis import HealthCheck, settings

        examples = 30 if "not slow" in config.getoption("markexpr") else 60
        settings.register_profile(
            "tier",
            max_examples=examples,
            deadline=None,  # this and the check would fail on a machine that is busy
            suppress_health_check=[HealthCheck.too_slow],
        )
        settings.load_profile("tier")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def own_torch(request):
    """torch draws what the printed seed says, whatever went before, and has one thread again."""
    torch = sys.modules.get("torch")
    if torch:
        torch.manual_seed(request.config.getoption("randomly_seed", 0))
        torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    """Pictures of three colours, a folder for each."""
    from makers import write_pictures

    return write_pictures(tmp_path / "colours")


@pytest.fixture
def made():
    """Named weights of a network for 16 of 20 px."""
    from makers import MADE_FOR, SMALL, network_of

    from alexnet.network.weight_names import weights_folder

    return network_of(weights_folder() / "made.safetensors", SMALL, 5, MADE_FOR)


@pytest.fixture(scope="session")
def photos_run(tmp_path_factory):
    """A run of one epoch on 60 photographs of cat, dog and eel, to read; a test that changes it
    copies it first."""
    from makers import change, class_folders

    import alexnet

    folder = tmp_path_factory.mktemp("photos-run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE", str(folder / "cache"))
        class_folders(folder / "photos", {"cat": 20, "dog": 20, "eel": 20}, size=(40, 30))
        recipe = change(
            alexnet.RECIPES["folder"].recipe, epochs=1, warmup=0.0, width=0.1, tensorboard=False,
            report=False,
        )  # fmt: skip
        return alexnet.train(folder / "photos", recipe, out=folder / "run")


@pytest.fixture(scope="session")
def drawings():
    """Arguments of `charts` -> figures, of all tests."""
    return {}


@pytest.fixture
def drawn_once(monkeypatch, drawings):
    """Draws a figure that an earlier test asked for no second time; returns those known, to forget.

    Equal figures are equal bytes, as test_charts.py shows, and most of a page's time is drawing.
    """
    from alexnet.reporting import charts

    def once(draw):
        @functools.wraps(draw)
        def drawn(*arguments, **options):
            key = pickle.dumps((draw.__name__, arguments, options))
            if key not in drawings:
                drawings[key] = draw(*arguments, **options)
            return drawings[key]

        return drawn

    for name in (
        "curves", "class_bars", "class_profile", "confusion_map", "reliability_diagram",
        "trades", "learning_curve", "main_effect", "parallel_coordinates",
    ):  # fmt: skip
        monkeypatch.setattr(charts, name, once(getattr(charts, name)))
    return drawings
