"""The folder of `alexnet export RUN --format web` in headless Chromium, on the images of a folder
and on a test film as camera, against the run.

uv run python benchmarks/web_page.py RUN SITE FOLDER
"""

import functools
import http.server
import shutil
import sys
import threading
import time

import numpy as np
from playwright.sync_api import expect, sync_playwright

import alexnet
from alexnet.classification.predict import image_files

CAMERA = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    run, site, folder = sys.argv[1:]
    reference = alexnet.load(run, precision="fp32", device="cpu")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    said, asked, times, differences, same = [], [], [], [], 0
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[f"--{one}" for one in ("no-sandbox", *CAMERA)],
        )
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        start = time.perf_counter()
        page.goto(address)
        expect(page.locator("#state")).to_have_text("Ready.", timeout=120_000)
        print(f"ready after {time.perf_counter() - start:.1f} s")
        for path in image_files([folder]):
            page.evaluate("document.getElementById('classes').replaceChildren()")
            page.set_input_files("#file", str(path))
            page.wait_for_selector("#classes li", timeout=60_000)
            found = {
                line.query_selector("span").text_content() or "": float(
                    line.get_attribute("data-p") or 0
                )
                for line in page.query_selector_all("#classes li")
            }
            times.append(float(page.text_content("#speed").split()[0]))
            p = dict(zip(reference.names, reference.predict_proba(path)[0], strict=True))
            same += max(found, key=found.__getitem__) == max(p, key=p.__getitem__)
            differences.append(max(abs(found[name] - p[name]) for name in found))
        print(f"same class {same} of {len(times)}, at most {max(differences):.1e} off")
        print(f"median of {np.median(times):.0f} ms for a picture")
        page.click("#camera")
        expect(page.locator("#speed")).to_contain_text("per second", timeout=60_000)
        time.sleep(5)
        print("camera:", page.text_content("#speed"))
        browser.close()
    outside = [url for url in asked if not url.startswith((address, "data:"))]
    print(f"console: {said}; requests to elsewhere: {outside}")


if __name__ == "__main__":
    main()
