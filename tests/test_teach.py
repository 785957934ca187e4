"""The folder that `alexnet teach` fills, what it learns from it, and the routes of its page."""

import io
import json
import time
import zipfile

import numpy as np
import pytest
from makers import class_folders, encoded, noise
from servers import Asked, rules, until

import alexnet.atomic
from alexnet.errors import InputError
from alexnet.serving.api import make_app
from alexnet.teaching.folder import DELETED, Folder, Gone
from alexnet.teaching.learning import LEAST, replace_folder, require_own, takes, what_is_missing
from alexnet.teaching.teach import Teaching, routes, suggested


@pytest.fixture
def folder(tmp_path):
    return Folder(class_folders(tmp_path / "things", {"cat": 3, "dog": 2}))


def names(folder):
    return {name: [one.name for one in some] for name, some in folder.classes().items()}


# -- the folder


def test_a_folder_is_made_and_its_pictures_are_listed(folder, tmp_path):
    assert names(Folder(tmp_path / "new")) == {}
    (folder.path / ".hidden").mkdir()
    (folder.path / "cat" / "notes.txt").write_text("no picture")
    assert names(folder) == {"cat": ["0.png", "1.png", "2.png"], "dog": ["0.png", "1.png"]}


@pytest.mark.parametrize("inside", ["train/cat/0.png", "0.png", "test/0.png"])
def test_other_folders_are_refused(inside, tmp_path):
    path = tmp_path / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(noise()))
    with pytest.raises(InputError):
        Folder(tmp_path)


def test_pictures_are_written_as_they_came_under_free_names(folder):
    content = encoded(noise(1), "JPEG")
    assert folder.add("cat", "../../new.png", content) == "new.jpg"  # what it is, not as called
    assert folder.add("cat", "new.jpg", content) == "new-2.jpg"
    assert folder.add("cat", "", content) == "picture.jpg"
    assert folder.file("cat", "new-2.jpg").read_bytes() == content


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "con", "CAT", "train", "a" * 61, "x\0"])
def test_names_that_no_folder_should_have(name, folder):
    with pytest.raises(InputError):
        folder.add_class(name)
    assert set(names(folder)) == {"cat", "dog"}


def test_what_is_gone_is_said(folder):
    for act in (
        lambda: folder.add("cow", "x", encoded(noise())),
        lambda: folder.file("cat", "../dog/0.png"),
        lambda: folder.file(DELETED, "x"),
        lambda: folder.move("cat", ["9.png"], "dog"),
        lambda: folder.rename_class("..", "x"),
        lambda: folder.restore("../cat"),
        lambda: folder.delete("cow"),
    ):
        with pytest.raises(Gone):
            act()


def test_what_is_deleted_comes_back(folder):
    before = names(folder)
    picture = folder.delete("cat", ["0.png"])
    class_ = folder.delete("cat")
    assert set(names(folder)) == {"dog"}
    folder.restore(class_)
    folder.add_class("new")
    folder.restore(picture)
    folder.delete("new")
    assert names(folder) == before
    with pytest.raises(Gone):
        folder.restore(picture)
    folder.forget_deleted()
    assert not (folder.path / DELETED).exists()


def test_pictures_move_and_overwrite_nothing(folder):
    folder.move("cat", ["0.png", "2.png"], "dog")
    assert names(folder) == {"cat": ["1.png"], "dog": ["0-2.png", "0.png", "1.png", "2.png"]}
    folder.rename_class("dog", "wolf")
    assert set(names(folder)) == {"cat", "wolf"}


# -- learning


def test_pictures_wait_to_be_sorted(page, tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(encoded(noise(number + 50)))
    folder = page.teaching.folder
    assert folder.lay_unsorted([*files, files[0]]) == 3
    assert folder.lay_unsorted(files) == 0  # they wait already
    state = page.state()
    assert [one["name"] for one in state["unsorted"]] == ["0.png", "1.png", "2.png"]
    assert page.get("/v1/teach/thumbnail?class=&name=0.png").status_code == 200
    assert page.change(do="move", class_="", pictures=["1.png"], to="dog").status_code == 200
    undo = page.change(do="delete", class_="", pictures=["2.png"]).json()["undo"]
    assert [one.name for one in folder.unsorted()] == ["0.png"]
    assert folder.lay_unsorted(files[:2]) == 0  # one of them has its class
    page.change(do="restore", to=undo)
    assert [one.name for one in folder.unsorted()] == ["0.png", "2.png"]
    assert page.state()["revision"] > state["revision"]
    assert "1-2.png" in names(folder)["dog"] and files[1].exists()
    assert page.change(do="delete", class_="").status_code == 409


def test_a_table_of_suggestions(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    table = tmp_path / "suggestions.csv"
    table.write_text(f"image,why\na.png,x\n{tmp_path / 'gone.png'},y\n")
    assert suggested(table) == [tmp_path / "a.png"]
    assert "1 of 2 pictures" in capsys.readouterr().err
    for content in (
        "image\ngone.png\n",
        "path\na.png\n",
        "\udcff".encode("utf-8", "surrogatepass"),
    ):
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError, match=r"no table of pictures|names no picture"):
            suggested(table)
    with pytest.raises(InputError, match="there is no file"):
        suggested(tmp_path / "absent.csv")


def test_what_is_missing_is_said(folder):
    assert "second class" in what_is_missing({"cat": []})
    assert f"needs {LEAST} pictures" in what_is_missing(folder.classes())
    assert "dog has 2" in what_is_missing(folder.classes())


def test_takes_stand_on_one_side_where_there_are_enough(folder):
    assert not takes(folder.classes())  # no takes at all
    for name in ("cat", "dog"):
        for take in "ab":
            for number in range(2):
                folder.add(name, f"take-{take}-{number}.jpg", encoded(noise(), "JPEG"))
    assert takes(folder.classes())  # two takes, and single pictures
    folder.delete("dog", ["0.png", "1.png"])
    assert not takes(folder.classes())


def test_a_run_takes_the_place_of_the_one_before(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "what").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [(one.name, (one / "what").read_text()) for one in tmp_path.iterdir()] == [
        ("old", "new")
    ]
    with pytest.raises(InputError):
        require_own(tmp_path)


# -- routes


class Page(Asked):
    """The page's routes, asked without a socket; nothing is learned."""

    def __init__(self, folder):
        self.teaching = Teaching(folder, folder.path.with_name("run"), "cpu")
        self.server = self.teaching.server
        more = routes(self.teaching)
        self.app = make_app(self.server, rules(), None, more, "alexnet.teaching")

    def change(self, **what):
        asked = {key.strip("_"): one for key, one in what.items()}
        return self.ask("POST", "/v1/teach/change", json=asked)

    def state(self, since=-1):
        return self.get(f"/v1/teach/state?since={since}").json()

    def close(self):
        self.teaching.stop()


@pytest.fixture
def page(folder):
    found = Page(folder)
    yield found
    found.close()


def test_the_page_allows_its_own_script_only(page):
    answer = page.get("/")
    assert answer.status_code == 200 and "Add class" in answer.text
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]


def test_the_state_has_a_revision(page):
    first = page.state()
    assert [one["name"] for one in first["classes"]] == ["cat", "dog"]
    assert "classes" not in page.state(first["revision"])
    (page.teaching.folder.path / "cat" / "0.png").unlink()  # by another program
    second = page.state(first["revision"])
    assert second["revision"] > first["revision"]
    assert len(second["classes"][0]["pictures"]) == 2


def test_changes_are_made_and_undone(page):
    assert page.change(do="add", to="cow").status_code == 200
    undo = page.change(do="delete", class_="cow").json()["undo"]
    assert page.change(do="rename", class_="cow", to="ox").status_code == 409
    assert page.change(do="restore", to=undo).status_code == 200
    assert page.change(do="move", class_="cat", pictures=["0.png"], to="cow").status_code == 200
    assert page.change(do="add", to="a/b").status_code == 422
    assert page.change(do="burn", to="x").status_code == 422
    assert [one["name"] for one in page.state()["classes"]] == ["cat", "cow", "dog"]


def test_pictures_are_taken_and_others_refused(page, monkeypatch):
    def sent(content, class_="cat"):
        return page.post(content, f"/v1/teach/picture?class={class_}&name=x.png")

    answer = sent(encoded(noise(7)))
    assert (answer.status_code, answer.json()) == (201, {"name": "x.png"})
    assert sent(b"no picture").status_code == 415
    assert sent(encoded(noise(7))[:60]).status_code == 422
    assert sent(encoded(noise(7)), "cow").status_code == 409
    thumbnail = page.get("/v1/teach/thumbnail?class=cat&name=x.png")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert page.get("/v1/teach/thumbnail?class=..&name=x.png").status_code == 409

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(alexnet.atomic, "sync", full)
    answer = sent(encoded(noise(8)))
    assert answer.status_code == 507 and "no space left" in answer.json()["error"]
    listed = page.teaching.folder.path / "cat"
    assert sorted(one.name for one in listed.iterdir()) == ["0.png", "1.png", "2.png", "x.png"]


def test_before_anything_is_learned(page):
    assert page.post(encoded(noise())).status_code == 409
    assert page.get("/v1/teach/export?kind=onnx").status_code == 422
    answer = page.get("/v1/teach/export?kind=folder")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {one for one in archive.namelist() if one[-1] != "/"} == {
            "cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png",
        }  # fmt: skip


@pytest.mark.slow
def test_a_folder_is_learned_from_and_again_after_a_change(tmp_path):
    folder = Folder(class_folders(tmp_path / "things", {"cat": 6, "dog": 6}, (40, 40)))
    (folder.path / "cat" / "bad.png").write_bytes(b"no picture")
    page = Page(folder)
    try:
        page.teaching.learner.start()
        assert until(lambda: page.state()["status"]["state"] == "known", 120), page.state()
        state = page.state()
        assert state["learned"]["classes"] == ["cat", "dog"]
        assert [one["name"] for one in state["bad"]] == ["bad.png"]
        assert page.top(encoded(noise())) in ("cat", "dog")
        onnx = page.get("/v1/teach/export?kind=onnx")
        assert onnx.status_code == 200 and len(onnx.content) > 10**6
        page.change(do="rename", class_="dog", to="cow")
        assert until(lambda: page.state()["learned"]["classes"] == ["cat", "cow"], 120)
        time.sleep(0.5)
        run = tmp_path / "run"
        assert json.loads((run / "metrics.json").read_text())["n"] == state["learned"]["tested"]
        assert state["learned"]["rate"] == 0.1  # of ten pictures, each held out once
        assert not [one for one in tmp_path.iterdir() if one.name.startswith(".run")]
    finally:
        page.close()


@pytest.mark.slow
def test_no_picture_is_lost_when_it_is_killed(tmp_path):
    from long import teach

    confirmed = {}
    for seconds in (0.7, 2.5):
        teach.killed_once(tmp_path / "things", confirmed, seconds, np.random.default_rng(0))
        teach.require_all(tmp_path / "things", confirmed)
    assert len(confirmed) > 5
