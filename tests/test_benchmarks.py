"""`benchmarks/run.py`: parts in turns, in rounds, gone on with; and their tables."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The script, with one part whose contestants take 1, 2, 3, ... seconds as they come."""
    for folder in ("docs", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    script = importlib.import_module("run")
    part = script.parts.Part("A job", lambda: dict.fromkeys(["ours", "theirs"]))
    monkeypatch.setattr(script.parts, "PARTS", {"job": part})
    monkeypatch.setattr(script, "RESULTS", tmp_path / "results" / "speed")
    monkeypatch.setattr(script, "share_of_processor", lambda threads: 1.0)
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))  # put back afterwards
    turns: list[str] = []
    monkeypatch.setattr(script, "turns", turns, raising=False)

    def contest(part, contestant, work):
        turns.append(contestant)
        return {"s": float(len(turns))}

    monkeypatch.setattr(script, "contest", contest)
    (tmp_path / "results").mkdir()
    yield script
    del sys.modules["run"], sys.modules["parts"]


def test_contestants_take_turns_and_what_is_there_is_gone_on_with(run, tmp_path, monkeypatch):
    run.measure("job", 2, again=False, patience=0)
    assert run.turns == ["ours", "theirs", "theirs", "ours"]
    path = tmp_path / "results" / "speed" / "job.json"
    rounds = [
        {"processor_share": 1.0, "ours": {"s": 1.0}, "theirs": {"s": 2.0}},
        {"processor_share": 1.0, "ours": {"s": 4.0}, "theirs": {"s": 3.0}},
    ]
    assert json.loads(path.read_text())["rounds"] == rounds
    run.measure("job", 2, again=False, patience=0)
    assert len(run.turns) == 4
    run.measure("job", 3, again=False, patience=0)
    assert json.loads(path.read_text())["rounds"][:2] == rounds
    assert run.turns[4:] == ["ours", "theirs"]
    monkeypatch.setattr(run, "version", lambda: "another")
    run.measure("job", 1, again=False, patience=0)
    assert len(json.loads(path.read_text())["rounds"]) == 1


def test_a_page_has_medians_their_range_and_the_ratio_within_rounds(run, tmp_path, monkeypatch):
    run.measure("job", 3, again=False, patience=0)
    results = importlib.import_module("results")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    text = results.part(["job"])
    assert "| ours | 4 (1 to 5) | 1.00 (1.00 to 1.00) |" in text
    assert "| theirs | 3 (2 to 6) | 1.20 (0.75 to 2.00) |" in text
    assert "Medians of 3 rounds" in text and "100%" in text
    assert results.part(["another"]).strip() == "Not measured yet."
