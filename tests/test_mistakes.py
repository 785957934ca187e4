"""What is typed wrongly is answered at once, rightly, and on one screen."""

import contextlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.cli import main

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "mistakes.py"))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """(exit code, answer, whether torch was imported) of each command, in one process."""
    folder = tmp_path_factory.mktemp("mistakes")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE", str(folder / "cache"))
        SCRIPT["furnish"](folder)
        assert main(SCRIPT["TRAIN"].split()) == 0
    code = (
        "import contextlib, io, json, sys\n"
        "from alexnet.cli import main\n"
        f"for typed in {[typed for typed, _ in SCRIPT['MISTAKES']]}:\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):\n"
        "        code = main(typed.split())\n"
        "    print(json.dumps([code, said.getvalue(), 'torch' in sys.modules]))\n"
    )
    around = os.environ | {"COLUMNS": "80", "ALEXNET_CACHE": str(folder / "cache")}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=around, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return dict(
        zip(
            [typed for typed, _ in SCRIPT["MISTAKES"]],
            [json.loads(line) for line in found.stdout.splitlines()],
            strict=True,
        )
    )


@pytest.mark.parametrize(("typed", "expected"), SCRIPT["MISTAKES"])
def test_a_mistake_is_answered_before_torch_is_imported(typed, expected, answers):
    code, answer, torch = answers[typed]
    assert not SCRIPT["faults"](code, answer, 0.0, expected), answer
    assert not torch


def test_what_is_right_is_no_mistake():
    assert SCRIPT["faults"](0, "a\nb", 9.0, "c") == ["exit code 0", "9.00 s", "does not say 'c'"]
