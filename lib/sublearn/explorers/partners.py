"""Entangled partners: every pair of a word and a number, searched by either, geometry beside behavior."""

import base64
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets

from sublearn.explorers.base import Explorer, still_picture, widget_script


class Partners(Explorer):
    """All pairs of words and numbers, in a scatter that can be searched, and the partners of what is chosen.

    `measures` maps a label to a matrix (word, number). Values are embedded in 8 bits, so they are good to a 250th of
    their range. `chosen` is a word, a number, or both, as the reader types it; `across` and `upward` name measures.
    ValueError for a matrix of another shape or without finite values.
    """

    module = "partners"
    _esm = widget_script(module)
    words = traitlets.List().tag(sync=True)
    numbers = traitlets.List().tag(sync=True)
    measures = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    across = traitlets.Unicode().tag(sync=True)
    upward = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode("Entangled partners").tag(sync=True)

    def __init__(self, words: Sequence[str], numbers: Sequence[str], measures: dict[str, np.ndarray], **choices):
        shape = (len(words), len(numbers))
        for name, matrix in measures.items():
            if np.shape(matrix) != shape or not np.isfinite(matrix).all():
                raise ValueError(f"measure {name!r} must hold finite numbers of shape {shape}, one per word and number")
        first, *_, last = measures
        names = {"chosen": words[0], "across": first, "upward": last}
        packed = {name: _packed(np.asarray(matrix, dtype=float)) for name, matrix in measures.items()}
        super().__init__(words=list(words), numbers=list(numbers), measures=packed, **(names | choices))

    def matrix(self, measure: str) -> np.ndarray:
        """Give a measure as it is embedded (word, number)."""
        packed = self.measures[measure]
        codes = np.frombuffer(base64.b64decode(packed["codes"]), dtype=np.int8)
        return codes.reshape(len(self.words), len(self.numbers)) * packed["scale"] / 127

    def still(self) -> str:
        """Give all pairs as a scatter, and the partners of each word that are largest by `upward`."""
        across, upward = self.matrix(self.across), self.matrix(self.upward)
        best = upward.argmax(1)
        rows = np.arange(len(self.words))
        table = pd.DataFrame({"word": self.words, "number": [self.numbers[place] for place in best]})
        table[self.upward], table[self.across] = upward[rows, best], across[rows, best]
        figure, ax = plt.subplots(figsize=(7, 3.4))
        ax.scatter(across.ravel(), upward.ravel(), s=2, linewidth=0, alpha=0.4, rasterized=True)
        ax.set(xlabel=self.across, ylabel=self.upward)
        alt = f"Scatter of {self.upward} against {self.across}, a point per pair; the table holds each word's best."
        return still_picture(figure, table, caption=f"{self.title}: all pairs, without means or bars.", alt=alt)


def _packed(matrix: np.ndarray) -> dict:
    scale = float(np.abs(matrix).max()) or 1.0
    codes = np.round(matrix / scale * 127).astype(np.int8)
    return {"scale": float(f"{scale:.6g}"), "codes": base64.b64encode(codes.tobytes()).decode()}
