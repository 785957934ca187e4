"""Draws validation accuracy by epoch of one or more runs.

uv run --with matplotlib python benchmarks/curves.py OUT.svg RUN [RUN ...]
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def main() -> None:
    out, *runs = map(Path, sys.argv[1:])
    plt.rcParams.update(
        {"svg.hashsalt": "alexnet", "svg.fonttype": "none", "font.size": 10, "axes.grid": True}
    )
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for run in runs:
        epochs = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
        minutes = [sum(e["seconds"] for e in epochs[: i + 1]) / 60 for i in range(len(epochs))]
        for name, style in (("train", "--"), ("val", "-")):
            shares = [100 * epoch[f"{name}_top1"] for epoch in epochs]
            label = f"{name}idation" if name == "val" else "training (augmented)"
            axes.plot(minutes, shares, style, marker=".", label=label)
        best = max((e for e in epochs if e["best"]), key=lambda e: e["epoch"])
        place = best["epoch"] - 1
        axes.annotate(
            f"chosen: epoch {best['epoch']}, {best['val_top1']:.1%}",
            (minutes[place], 100 * best["val_top1"]),
            (-12, -52), textcoords="offset points", ha="right",
            arrowprops={"arrowstyle": "-", "color": "grey"},
        )  # fmt: skip
    axes.set(xlabel="minutes on 2 CPU cores", ylabel="top-1, %")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
