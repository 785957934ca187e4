"""An exported .onnx file against its run on the images of a folder and on one variant of each, also
as whole decoded images through the graph.

uv run python benchmarks/exported.py RUN MODEL.onnx FOLDER
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import alexnet
from alexnet.classification.onnx_classifier import OnnxClassifier
from alexnet.classification.predict import image_files
from alexnet.data.images import open_image, rgb


def variant(content: bytes, kind: int, generator: np.random.Generator) -> bytes:
    """The image resized, grey, transparent, turned by EXIF, with a palette, CMYK, black and white,
    or large."""
    image, file = Image.open(io.BytesIO(content)).convert("RGB"), io.BytesIO()
    if kind == 0:
        image.resize(generator.integers(20, 900, 2)).save(file, "PNG")
    elif kind == 2:
        noise = generator.integers(0, 256, (image.height, image.width), dtype=np.uint8)
        image.putalpha(Image.fromarray(noise))
        image.save(file, "PNG")
    elif kind == 3:
        turned = Image.Exif()
        turned[0x0112] = int(generator.integers(1, 9))
        image.save(file, "JPEG", exif=turned, quality=80)
    elif kind == 7:
        image.resize(generator.integers(1000, 3000, 2)).save(file, "JPEG")
    else:
        mode, form = {1: ("L", "PNG"), 4: ("P", "GIF"), 5: ("CMYK", "JPEG"), 6: ("1", "PNG")}[kind]
        image.convert(mode).save(file, form)
    return file.getvalue()


def decoded(content: bytes) -> np.ndarray:
    image = open_image(content)
    image.load()
    return np.array(rgb(ImageOps.exif_transpose(image)))


def main() -> None:
    run, file, folder = sys.argv[1:]
    reference = alexnet.load(run, precision="fp32", device="cpu")
    model = OnnxClassifier(Path(file))
    contents = [path.read_bytes() for path in image_files([folder])]
    generator = np.random.default_rng(0)
    made = [variant(one, number % 8, generator) for number, one in enumerate(contents)]
    for name, group in (("files", contents), ("variants", made)):
        pixels = [decoded(one) for one in group]
        whole = np.concatenate([model.run(one[None]) for one in pixels])
        for what, expected, found in (
            ("files, file by file", reference.predict_proba(group), model.predict_proba(group)),
            ("whole images", reference.predict_proba(pixels), whole),
            ("whole images, against the run on files", reference.predict_proba(group), whole),
        ):
            same = int((expected.argmax(1) == found.argmax(1)).sum())
            difference = np.abs(expected - found).max()
            print(
                f"{name}: {what}: same class {same} of {len(group)}, at most {difference:.1e} off"
            )


if __name__ == "__main__":
    main()
