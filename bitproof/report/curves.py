"""Training curves as an SVG that is put into the page itself."""

from __future__ import annotations

import io
from typing import Any


def training_curves_svg(metrics: dict[str, dict[str, Any]]) -> str:
    """Return loss and validation accuracy over epochs, for every network in *metrics*, as one SVG element.

    The bytes depend on *metrics* alone: ids come from a fixed salt and the file carries no date.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = {"train-float": ("float baseline", "#888888"), "train": ("quantized", "#0b6e4f")}
    with mpl.rc_context({"svg.hashsalt": "bitproof", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        for stage, content in metrics.items():
            label, colour = names[stage]
            epochs = [entry["epoch"] for entry in content["epochs"]]
            loss.plot(epochs, [entry["train_loss"] for entry in content["epochs"]], color=colour, label=label)
            accuracy.plot(
                epochs, [entry["validation_accuracy"] for entry in content["epochs"]], color=colour, label=label
            )
        for axes, title in ((loss, "training loss"), (accuracy, "validation accuracy, %")):
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("epoch")
            axes.spines[["top", "right"]].set_visible(False)
        if metrics:
            accuracy.legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
