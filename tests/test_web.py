"""The folder of `export --format web`: complete, careful with what is there, and at work in a real
browser, where there is one. The runtime is a stand-in; benchmarks/web_page.py has the real one."""

import functools
import http.server
import json
import shutil
import tarfile
import threading

import numpy as np
import pytest
from makers import encoded, noise
from PIL import Image

from alexnet import cli
from alexnet.atomic import write_json
from alexnet.errors import InputError
from alexnet.exporting.web import HOW, PAGE, RUNTIME, runtime_files, write_page, write_runtime

# stands for onnxruntime-web: the class is the number of the brightest of three channels
ORT = b"""
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export const InferenceSession = { create: async (path) => {
  if (!(await fetch(path)).ok) throw new Error("no model");
  return { run: async ({ images }) => {
    const sums = [0, 0, 0];
    images.data.forEach((one, place) => { sums[place % 3] += one; });
    const [, height, width] = images.dims;
    const data = sums.map((one) => one / (255 * height * width));
    const distance = { data: Float32Array.from([1 - Math.max(...data)]) };
    return { probabilities: { data: Float32Array.from(data) }, distance };
  } };
} };
//# sourceMappingURL=ort.wasm.min.mjs.map
"""
NAMES = ["<img src=x onerror=alert(1)>", "green & <b>", "blue"]


@pytest.fixture
def package(tmp_path):
    """A folder as npm makes one."""
    folder = tmp_path / "node_modules" / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in RUNTIME:
        (folder / name).write_bytes(ORT if name.endswith("ort.wasm.min.mjs") else b"{}")
    return folder


def test_the_folder_and_the_archive_hold_the_same(package, tmp_path):
    archive = tmp_path / "onnxruntime-web-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(package, "package")
    found = runtime_files(package)
    assert found == runtime_files(archive) and set(found) == set(RUNTIME.values())
    assert b"sourceMappingURL" not in found["ort.js"]


def test_what_is_no_runtime(package, tmp_path):
    (tmp_path / "text.tgz").write_text("no archive")
    with pytest.raises(InputError, match=r"cannot be read as \.tgz"):
        runtime_files(tmp_path / "text.tgz")
    with pytest.raises(InputError, match=r"cannot be read as \.tgz"):
        runtime_files(tmp_path / "none")
    (package / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(InputError, match=r"it has no dist/ort-wasm-simd-threaded\.wasm") as caught:
        runtime_files(package)
    assert caught.value.hint == HOW
    with tarfile.open(tmp_path / "cut.tgz", "w:gz") as file:
        file.add(package, "package")
    whole = (tmp_path / "cut.tgz").read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError):
        runtime_files(tmp_path / "cut.tgz")


@pytest.mark.slow
def test_a_run_becomes_a_folder(photos_run, package, tmp_path, capsys):
    run, site = photos_run, tmp_path / "site"
    command = ["export", str(run), "--format", "web", "--out", str(site)]
    assert cli.main(command) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(site) and "the folder has no runtime yet" in told.err
    assert {one.name for one in site.iterdir()} == {*PAGE, "model.onnx", "about.json"}
    assert json.loads((site / "about.json").read_text())["names"] == ["cat", "dog", "eel"]
    assert cli.main([*command, "--runtime", str(package)]) == 0
    assert "no runtime" not in capsys.readouterr().err
    assert {one.name for one in (site / "runtime").iterdir()} == set(RUNTIME.values())
    assert cli.main(command) == 0  # and it stays
    assert "no runtime" not in capsys.readouterr().err
    (site / "index.html").write_text("my page")
    assert cli.main(command) == 2
    assert "of another page, and would be lost" in capsys.readouterr().err
    assert (site / "index.html").read_text() == "my page"
    assert cli.main([*command[:-1], str(site / "model.onnx")]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err
    assert cli.main(["export", str(run), "--runtime", str(package)]) == 2
    assert "--runtime is for a page" in capsys.readouterr().err


@pytest.fixture
def site(package, tmp_path):
    """The address of a folder, served as any static host would."""
    folder = tmp_path / "site"
    write_page(folder)
    write_runtime(folder, runtime_files(package))
    write_json(folder / "about.json", {"names": NAMES, "metrics": {"top1": 0.5, "n": 8}})
    (folder / "model.onnx").write_bytes(b"")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(site):
    """A page of a real browser, on a telephone's screen, with a camera that shows a test film."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium")
    if not found:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"]
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        context = browser.new_context(viewport={"width": 360, "height": 740})
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on("request", lambda request: page.asked.append(request.url))
        page.expect = playwright.expect
        yield page
        browser.close()


def png(colour, mode="RGB"):
    image = Image.new(mode, (40, 30), colour)
    return {"name": "<b>.png", "mimeType": "image/png", "buffer": encoded(image)}


@pytest.mark.slow
def test_the_page_classifies(site, page):
    page.goto(site[1])
    page.expect(page.locator("#state")).to_have_text("Ready.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert "50.0 % of 8 test pictures" in page.text_content("#about")
    first = page.locator("#classes li").first
    for colour, name in (("#ff0000", NAMES[0]), ("#00ff00", NAMES[1]), ("#0000ff", NAMES[2])):
        page.set_input_files("#file", png(colour))
        page.expect(first.locator("span").first).to_have_text(name)
    assert page.text_content("#state") == "Classified: <b>.png"
    # transparency is laid over white
    page.set_input_files("#file", png((255, 0, 0, 0), "RGBA"))
    page.expect(first).to_have_attribute("data-p", "1")
    page.expect(page.locator("#classes li").last).to_have_attribute("data-p", "1")
    # the bytes are those of the file
    image = noise(0, (31, 17))
    page.set_input_files("#file", {**png("red"), "buffer": encoded(image)})
    share = np.array(image).mean((0, 1)).max() / 255
    page.expect(first).to_have_attribute("data-p", str(float(np.float32(share))))
    page.set_input_files("#file", {**png("red"), "buffer": b"no picture"})
    page.expect(page.locator("#state")).to_contain_text("not a picture")
    assert not page.said
    assert all(url.startswith((site[1], "data:")) for url in page.asked)


@pytest.mark.slow
def test_the_page_says_that_it_does_not_know(site, page):
    about, calibration = json.loads((site[0] / "about.json").read_text()), np.linspace(0, 0.8, 39)
    page.route("**/about.json", lambda route: route.fulfill(body=json.dumps(about)))
    for n, shown in ((18, False), (39, True)):
        about["calibration"] = {"p": list(calibration[-n:]), "distance": list(calibration[:n])}
        page.goto(site[1])
        page.expect(page.locator("#state")).to_have_text("Ready.")
        page.expect(page.locator("#doubt")).to_be_visible(visible=shown)
    # of 39 numbers the second smallest is 0.02, the second largest 0.78
    page.set_input_files("#file", png("#ff2000"))
    page.expect(page.locator("#verdict")).to_have_text("")
    page.check("#unsure")
    page.expect(page.locator("#verdict")).to_have_text(f"{NAMES[0]} or {NAMES[1]}")
    page.set_input_files("#file", png("#020304"))
    page.expect(page.locator("#verdict")).to_have_text("none of these; unlike anything seen")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360 and not page.said


@pytest.mark.slow
def test_pasting_and_dropping(site, page):
    page.goto(site[1])
    page.expect(page.locator("#state")).to_have_text("Ready.")
    content = list(encoded(Image.new("RGB", (9, 9), "#0000ff")))
    for event, field in (("ClipboardEvent", "clipboardData"), ("DragEvent", "dataTransfer")):
        page.evaluate("document.getElementById('classes').replaceChildren()")
        page.evaluate(
            """([event, field, content]) => {
              const carried = new DataTransfer();
              carried.items.add(new File([new Uint8Array(content)], "a.png", {type: "image/png"}));
              const kind = event === "DragEvent" ? "drop" : "paste";
              const init = { [field]: carried, bubbles: true, cancelable: true };
              document.dispatchEvent(new window[event](kind, init));
            }""",
            [event, field, content],
        )
        page.expect(page.locator("#classes li span").first).to_have_text("blue")
    assert not page.said


@pytest.mark.slow
def test_the_camera(site, page):
    page.context.grant_permissions(["camera"])
    page.goto(site[1])
    page.expect(page.locator("#state")).to_have_text("Ready.")
    page.click("#camera")
    page.expect(page.locator("#speed")).to_contain_text("pictures per second")
    # the film is green
    page.expect(page.locator("#classes li span").first).to_have_text(NAMES[1])
    page.set_input_files("#file", png("#ff0000"))  # ends it
    page.expect(page.locator("#classes li span").first).to_have_text(NAMES[0])
    page.expect(page.locator("#camera")).to_have_text("Camera")
    page.click("#camera")
    page.expect(page.locator("#camera")).to_have_text("Stop")
    page.click("#camera")
    page.expect(page.locator("#state")).to_have_text("Ready.")
    assert not page.said


@pytest.mark.slow
def test_a_camera_that_is_denied(site, page):
    page.context.clear_permissions()
    page.goto(site[1])
    page.expect(page.locator("#state")).to_have_text("Ready.")
    page.click("#camera")
    page.expect(page.locator("#state")).to_contain_text("The camera is not allowed here. Allow it")


@pytest.mark.slow
def test_a_page_without_its_runtime(site, page):
    shutil.rmtree(site[0] / "runtime")
    page.goto(site[1])
    page.expect(page.locator("#state")).to_contain_text("npm pack onnxruntime-web")


@pytest.mark.slow
def test_a_page_opened_as_a_file(site, page):
    page.goto((site[0] / "index.html").as_uri())
    page.expect(page.locator("#state")).to_contain_text("python3 -m http.server")
    assert page.said  # the browser's own words: a file may not load modules
