"""Explorer of chapter 6: which parts of the start are shared, and what becomes of the student."""

from collections.abc import Sequence
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from traitlets import Dict, List, Unicode

from sublearn import stats
from sublearn.explorers.base import Explorer, Still
from sublearn.explorers.widgets import packed_table
from sublearn.report.figures import bars_note, dot_intervals

DIGITS = 4  # of each embedded number


class Parts(Explorer):
    """Choose the shared parts and the number of logits; see accuracy, terms and likeness.

    `table` has a row per student: `shared` (parts of the start joined by "+", in the order of
    `settings.PARTS`), `logits`, seed, model, and the measures. `groups` lists three lists of them:
    what is read of the student ("accuracy" among them), accuracies without one term, likenesses.
    `shared` and `logits` are what is shown first.
    """

    module = "parts"
    data = Dict()
    groups = List()
    title = Unicode("Which parts of the start?")
    shared = List(["class_head", "aux_head"])
    logits = Unicode()

    def __init__(self, table: pd.DataFrame, groups: Sequence[Sequence[str]], **traits):
        measures = [*chain.from_iterable(groups)]
        factors = ["shared", "logits"]
        packed = packed_table(table, factors, measures, stats.UNITS, digits=DIGITS)
        traits.setdefault("logits", packed["factors"]["logits"]["levels"][-1])
        super().__init__(data=packed, groups=[*map(list, groups)], **traits)
        self._rows = table
        self._measures = measures

    def draw(self, ax: Axes) -> Still:
        """Draw all measures of the students that are shown first."""
        same_start = self._rows["shared"] == "+".join(self.shared)
        same_logits = self._rows["logits"].astype(str) == self.logits
        chosen = self._rows[same_start & same_logits]
        rows = []
        for measure in self._measures:
            means = stats.summary(chosen.assign(measure=measure), by="measure", value=measure)
            rows.append(means)
        means = pd.concat(rows, ignore_index=True)
        ax.figure.set_size_inches(7, 1 + 0.32 * len(means))
        dot_intervals(ax, means, y="measure")
        ax.set_xlabel("accuracy, or likeness to the teacher")
        parts = " and ".join(self.shared) or "nothing"
        caption = f"{self.title} Shared: {parts}; {self.logits} logits. {bars_note(means.n)}"
        alt = "Dot plot of every measure of these students; the table below holds its numbers."
        return means[["measure", "mean", "low", "high", "n"]], caption, alt
