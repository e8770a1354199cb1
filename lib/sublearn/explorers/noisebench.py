"""The noise bench: what families of noise look like, and what students learn from them, side by side."""

import base64
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets

from sublearn.explorers.base import Explorer, still_picture, widget_script

LOOK = ("family", "parameter", "sample", "spectrum", "singular")
MEASURED = ("family", "parameter", "mean", "low", "high", "n")


class NoiseBench(Explorer):
    """Families of noise beside each other: a sample, its spectra, and the accuracy measured at the nearest setting.

    `looks` has a row per family and parameter with `sample` (side x side, from -1 to 1), `spectrum` (power by radial
    frequency) and `singular` (singular values). `accuracies` has the columns family, parameter, mean, low, high and n,
    perhaps of fewer parameters. In a live notebook `recompute(family, parameter)` may give a further such row, as a
    dict, when the reader asks for it. ValueError for a column that is missing.
    """

    module = "noise"
    _esm = widget_script(module)
    looks = traitlets.List().tag(sync=True)
    accuracies = traitlets.List().tag(sync=True)
    family = traitlets.Unicode().tag(sync=True)
    parameter = traitlets.Float().tag(sync=True)
    title = traitlets.Unicode("The noise bench").tag(sync=True)
    label = traitlets.Unicode("parameter").tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        looks: pd.DataFrame,
        accuracies: pd.DataFrame,
        *,
        recompute: Callable[[str, float], dict] | None = None,
        **choices,
    ):
        for table, needed in ((looks, LOOK), (accuracies, MEASURED)):
            if missing := [name for name in needed if name not in table]:
                raise ValueError(f"There is no column {missing[0]!r}: looks need {LOOK}, accuracies {MEASURED}.")
        rows = [_packed_look(row) for row in looks[list(LOOK)].to_dict("records")]
        measured = [_plain(row) for row in accuracies[list(MEASURED)].to_dict("records")]
        first = {"family": rows[0]["family"], "parameter": rows[0]["parameter"], "live": recompute is not None}
        super().__init__(looks=rows, accuracies=measured, **(first | choices))
        self._recompute = recompute
        self.on_msg(self._asked)

    def _asked(self, _, message: dict, __) -> None:
        if message.get("do") == "compute" and self._recompute:
            self.accuracies = [*self.accuracies, _plain(self._recompute(message["family"], message["parameter"]))]

    def still(self) -> str:
        """Give the measured accuracies of every family."""
        table = pd.DataFrame(self.accuracies, columns=MEASURED)
        figure, ax = plt.subplots(figsize=(7, 3.4))
        for family, own in table.groupby("family", sort=False):
            bars = np.abs(own[["low", "high"]].to_numpy(float).T - own["mean"].to_numpy())
            ax.errorbar(own.parameter, own["mean"], bars, fmt="o", capsize=4, label=family)
        ax.set(xlabel=self.label, ylabel="accuracy on test images", ylim=(0, 1))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        alt = f"Accuracy of students against the {self.label} of the noise: points with intervals, a color per family."
        return still_picture(figure, table, caption=f"{self.title}: accuracies with 95 % t intervals.", alt=alt)


def _packed_look(row: dict) -> dict:
    sample = np.asarray(row["sample"], float)
    gray = np.clip(np.round(255 * (1 - (sample + 1) / 2)), 0, 255).astype(np.uint8)
    curves = {name: [float(f"{value:.4g}") for value in row[name]] for name in ("spectrum", "singular")}
    picture = {"side": len(gray), "pixels": base64.b64encode(gray.tobytes()).decode()}
    return {"family": str(row["family"]), "parameter": float(row["parameter"])} | picture | curves


def _plain(row: dict) -> dict:
    numbers = {name: None if pd.isna(row[name]) else float(row[name]) for name in ("parameter", "mean", "low", "high")}
    return {"family": str(row["family"]), **numbers, "n": int(row["n"])}
