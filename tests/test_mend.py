"""`alexnet teach RUN --mend`: which pictures are asked about, what is said of them, its routes."""

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from long.teach import frame
from makers import class_folders, snapshot
from servers import Asked, rules

import alexnet.atomic
from alexnet.cli import main
from alexnet.data.changes import Change, write_changes
from alexnet.data.datasets import open_data
from alexnet.data.handed import labelled
from alexnet.errors import DataError, RunError
from alexnet.holding import one_at_a_time
from alexnet.runs.directory import Predictions, RunDirectory
from alexnet.serving.api import Server, make_app
from alexnet.teaching.mend import mend, routes
from alexnet.teaching.mending import Mending, suspects_of, table_beside


class Page(Asked):
    """The page's routes, asked without a socket."""

    def __init__(self, mending):
        self.mending, self.server = mending, Server({})
        more = routes(mending, self.server)
        self.app = make_app(self.server, rules(), None, more, "alexnet.teaching", "mend.html")
        self.of = self.get("/v1/mend/about").json()["of"]

    def state(self):
        return self.get("/v1/mend/state").json()

    def say(self, answer, row=None, of=None, **more):
        row = self.state()["items"][0]["row"] if row is None else row
        asked = {"row": row, "of": of or self.of, "answer": answer, **more}
        return self.ask("POST", "/v1/mend/answer", json=asked)


@pytest.fixture(scope="module")
def photos(photos_run):
    return Path(RunDirectory(photos_run).settings.data)


@pytest.fixture
def table(tmp_path):
    return tmp_path / "changes.csv"


@pytest.fixture
def mending(photos_run, table, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(photos_run.parent / "cache"))
    return Mending(photos_run, table)


@pytest.fixture
def page(mending):
    found = Page(mending)
    yield found
    found.close()


def rows(table):
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def test_the_most_doubtful_come_first(tmp_path):
    class_folders(tmp_path / "photos", {"a": 20, "b": 20})
    store = open_data(tmp_path / "photos", image_size=8)
    p = np.full((40, 2), 0.1)
    p[np.arange(40), store.y] = 0.9
    p[3], p[25] = (0.3, 0.95), (0.96, 0.04)
    logits = np.log(p[[3, 7, 8]])
    logits[1:] = [[0, 3], [5, 0]]  # of 7, which is wrong, and of 8, which is right
    found = Predictions(
        logits, store.y[[3, 7, 8]], [store.ids[row] for row in (3, 7, 8)], ["a", "b"]
    )
    suspects = suspects_of(store, p, found)
    assert [one.row for one in suspects] == [25, 7, 3]
    assert [(one.given, one.suggested) for one in suspects] == [(1, 0), (0, 1), (0, 1)]


def test_where_the_table_lies(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert table_beside(str(photos)) == photos.with_name("photos-changes.csv")
    assert table_beside(f"{photos}/*?group=x") == photos.with_name("photos-changes.csv")
    assert table_beside("cifar10") == tmp_path / "cifar10-changes.csv"
    assert table_beside(f"{photos}?labels=/x/mine.csv") == Path("/x/mine.csv")
    (tmp_path / "labels.csv").write_text("path,label\n")
    assert table_beside(str(tmp_path / "labels.csv")) == tmp_path / "labels-changes.csv"


def test_answers_are_on_the_disk_and_are_gone_on_with(page, photos, photos_run, table):
    before, first = snapshot(photos), page.state()
    assert first["total"] > 4 and first["looked"] == 0 and first["last"] is None
    one = first["items"][0]
    assert len(one["like_given"]) == len(one["like_suggested"]) == 6
    store = page.mending.store
    assert {store.classes[store.y[row]] for row in one["like_suggested"]} == {one["suggested"]}
    assert one["row"] not in one["like_given"]
    asked = []
    for answer in ("right", "other", "remove"):
        [item, _] = page.state()["items"]
        asked.append(item["row"])
        assert page.say(answer, **{"class": item["suggested"]}).status_code == 200
    state = page.say("unsure").json()
    assert (state["looked"], state["counts"]["remove"]) == (4, 1)
    told = rows(table)
    assert [row["answer"] for row in told] == ["right", "other", "remove", "unsure"]
    assert [row["path"] for row in told[:3]] == [store.ids[row] for row in asked]
    assert told[0]["label"] == told[0]["was"] and told[1]["label"] != told[1]["was"]
    again = Page(Mending(photos_run, table))
    assert again.state() == state
    again.close()
    changed = open_data(labelled(photos, labels=table), image_size=8)
    assert len(changed) == 59 and changed.info["changes"]["changed"] == 1
    assert snapshot(photos) == before


def test_answers_are_taken_back_the_last_first(page, table):
    row = page.state()["items"][0]["row"]
    other = page.say("remove").json()["items"][0]["row"]
    page.say("right")
    assert page.say("undo", row).status_code == 409
    assert page.say("undo", other).status_code == 200
    state = page.say("undo", row).json()
    assert (state["looked"], state["last"], state["items"][0]["row"]) == (0, None, row)
    assert rows(table) == []


def test_two_tabs_lose_nothing(page):
    row = page.state()["items"][0]["row"]
    assert page.say("right", row).status_code == 200
    answer = page.say("remove", row)
    assert answer.status_code == 409 and "another tab" in answer.json()["error"]
    assert page.state()["counts"] == {"right": 1}
    assert page.say("right", of="ffff").status_code == 409


@pytest.mark.parametrize(
    "said", [{"class": "cow"}, {"class": ""}, {"answer": "burn"}, {"row": "x"}]
)
def test_what_is_no_answer_is_refused(said, page, table):
    row = page.state()["items"][0]["row"]
    asked = {"row": row, "of": page.of, "answer": "other", "class": "cat"} | said
    assert page.ask("POST", "/v1/mend/answer", json=asked).status_code == 422
    assert not table.exists()
    assert page.say("right", 10**6).status_code == 409


def test_a_full_disk_is_said_and_nothing_taken_down(page, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(alexnet.atomic, "sync", full)
        assert page.say("right").status_code == 507
    assert page.state()["looked"] == 0
    assert page.say("right").status_code == 200


def test_the_page_and_its_pictures(page):
    answer = page.get("/")
    assert answer.status_code == 200 and "Mend labels" in answer.text
    assert "include" not in answer.text and "class Trouble" in answer.text
    row = page.state()["items"][0]["row"]
    picture = page.get(f"/v1/mend/picture?row={row}&side=160")
    assert picture.status_code == 200 and picture.headers["content-type"].startswith("image/")
    assert page.get("/v1/mend/picture?row=99999").status_code == 409
    assert page.get("/v1/mend/about").json()["command"].startswith("alexnet train ")


def test_tables_of_other_data_and_changed_pictures(photos_run, photos, table, page):
    page.say("right")
    told = rows(table)[0]
    for change in ({"path": "other/0.png"}, {"sha256": "0" * 16}, {"label": "cow"}):
        write_changes(table, [Change(**told | change)])
        with pytest.raises(DataError):
            Mending(photos_run, table)


@pytest.mark.slow
def test_a_run_read_with_the_table_is_gone_on_with(photos_run, photos, mending, tmp_path, table):
    """What is answered changes the labels of its data; the run goes on with those it had."""
    first = next(iter(mending.suspects.values()))
    mending.answer(first.row, "other", mending.store.classes[first.suggested])
    run = shutil.copytree(photos_run, tmp_path / "run")
    store = open_data(labelled(photos, labels=table), image_size=mending.store.x.shape[-1])
    for name, old, new in (
        ("recipe.json", str(photos), f"{photos}?labels={table}"),
        ("environment.json", mending.store.fingerprint, store.fingerprint),
    ):
        text = (run / name).read_text().strip()
        assert old in text
        (run / name).write_text(text.replace(old, new))
    again = Mending(run, table_beside(f"{photos}?labels={table}"))
    assert mending.ids[first.row] in again.changes
    row = next(one for one in again.suspects if again.ids[one] not in again.changes)
    again.answer(row, "remove")
    assert len(Mending(run, table).changes) == 2


def test_flags(photos_run, tmp_path):
    for words in (
        ["--labels", "x.csv"],
        [str(photos_run), "--mend", "--out", "x"],
        ["x", "--mend"],
    ):
        assert main(["teach", *words]) == 2
    with one_at_a_time(tmp_path / "t.csv", "it"), pytest.raises(RunError):
        mend(photos_run, labels=tmp_path / "t.csv", port=0)


def test_a_picture_that_is_gone_is_shown_as_it_was_packed(mending, photos, monkeypatch):
    monkeypatch.setattr("alexnet.teaching.mending.original", lambda *_: photos / "none.png")
    assert mending.picture(0, 160).startswith(b"\x89PNG")


@pytest.mark.slow
def test_wrong_labels_are_found_and_mended(tmp_path, monkeypatch):
    """Shapes that are easily told apart: most of what is planted is found, and mended."""
    from long import mending as person

    draw = np.random.default_rng(0)
    for label, name in enumerate(("broad", "fine", "middle")):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for number in range(36):
            (tmp_path / "shapes" / name / f"{number}.jpg").write_bytes(frame(label, draw))
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    words = argparse.Namespace(per_class=28, test=8, errors=0.1, looks=20)
    found = person.once(tmp_path / "shapes", tmp_path, words, 0)
    assert found["planted"] == 9 and found["found"] >= 6 and found["looks"] <= 20
    assert found["after"] >= found["before"]
