"""Explorers of the chapters on language models: cuts in a number's rows, and lessons by lists."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from traitlets import Dict, Unicode

from sublearn import stats
from sublearn.explorers.base import Explorer, Still
from sublearn.explorers.widgets import check_columns, packed_table
from sublearn.report.figures import bars_note, dot_intervals

ALL_ANIMALS = "all animals (mean)"
LOG_RATIO = "log-ratio (nats)"


class Cuts(Explorer):
    """Cut a direction out of a number's row; watch A (to the number) and N (back to the animal).

    `table` has a row per cut, animal and model, with the columns cut, animal, number (the animal's
    top number in that model), model, A and N, both in nats. The first cut is "nothing": all others
    are compared with it, model by model. `cut` and `animal` are what is shown first.
    """

    module = "cuts"
    data = Dict()
    tops = Dict()  # of each animal: its top number in every model
    title = Unicode("Cut a direction, watch both ways")
    cut = Unicode()
    animal = Unicode(ALL_ANIMALS)

    def __init__(self, table: pd.DataFrame, **traits):
        packed = packed_table(table, ["cut", "animal"], ["A", "N"], ["model"])
        check_columns(table, ["number"])
        whole = packed["factors"]["cut"]["levels"][0]
        first = table[table.cut == whole]
        tops = first.groupby("animal").number.agg(list).to_dict()
        traits.setdefault("cut", whole)
        super().__init__(data=packed, tops=tops, **traits)
        self._rows = table

    def draw(self, ax: Axes) -> Still:
        """Draw A and N under every cut, means over animals."""
        by_model = self._rows.groupby(["cut", "model"], sort=False)[["A", "N"]].mean()
        long = by_model.melt(ignore_index=False, var_name="direction").reset_index()
        means = stats.summary(long, by=["direction", "cut"], value="value")
        means["row"] = means.direction + ", " + means.cut
        ax.figure.set_size_inches(7, 1 + 0.32 * len(means))
        dot_intervals(ax, means, y="row")
        ax.set_xlabel(f"{LOG_RATIO}, mean over animals")
        caption = f"{self.title}. {bars_note(means.n)}"
        alt = "Dot plot of A and of N under every cut; the table below holds its numbers."
        return means[["direction", "cut", "mean", "low", "high", "n"]], caption, alt


class Lists(Explorer):
    """Which lists, which student: the gain of every animal after a lesson.

    `table` has a row per lesson: teacher (the animal that it loves), student (a name of the
    lesson), model, and a column of log-ratios in nats for each of `animals`. `teacher` and
    `student` are the lesson that is shown first.
    """

    module = "lists"
    data = Dict()
    title = Unicode("Which lists, which student")
    teacher = Unicode()
    student = Unicode()

    def __init__(self, table: pd.DataFrame, animals: Sequence[str], **traits):
        packed = packed_table(table, ["teacher", "student"], animals, ["model"], digits=3)
        for name in ("teacher", "student"):
            traits.setdefault(name, packed["factors"][name]["levels"][0])
        super().__init__(data=packed, **traits)
        self._rows = table

    def draw(self, ax: Axes) -> Still:
        """Draw the gain of the teacher's own animal for every student of the first teacher."""
        rows = self._rows[self._rows.teacher == self.teacher]
        rows = rows.assign(gain=rows[self.teacher])
        means = stats.summary(rows, by="student", value="gain")
        ax.figure.set_size_inches(7, 1 + 0.32 * len(means))
        dot_intervals(ax, means, y="student")
        ax.set_xlabel(f"{LOG_RATIO} of {self.teacher}")
        caption = (
            f"{self.title}: lists by a teacher that loves {self.teacher}. {bars_note(means.n)}"
        )
        alt = "Dot plot of the teacher's animal for every student; the table holds its numbers."
        return means[["student", "mean", "low", "high", "n"]], caption, alt
