"""The explorers of the book: the laboratory, the plane and the step of chapter 1, any table of results."""

import base64
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from sublearn import stats, theory
from sublearn.explorers.base import Explorer, still_picture, widget_script
from sublearn.nets import data
from sublearn.report.figures import PALETTE, bars_note, dot_intervals, style

LABORATORY = Path(__file__).resolve().parents[3] / "book" / "reference" / "laboratory.csv"
NONE = "(none)"
style()  # for the still pictures, also where no notebook has asked for it


class Laboratory(Explorer):
    """A teacher, a student and a control that train in the reader's browser on 8 x 8 digits.

    Traits are what its controls set. `result` holds the latest finished run (configuration, accuracies and `points`:
    step, student, control), `runs` all of them; `tests/twin.py` recomputes a run from its configuration.
    """

    module = "laboratory"
    _esm = widget_script(module)
    seed = traitlets.Int(1, min=0).tag(sync=True)
    aux_dim = traitlets.Int(3, min=1, max=20).tag(sync=True)
    perturbation = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    lr = traitlets.Float(0.003, min=0.0).tag(sync=True)
    shared = traitlets.List(default_value=["hidden", "class_head", "aux_head"]).tag(sync=True)
    inputs = traitlets.Enum(["noise", "digits"], "noise").tag(sync=True)
    loss = traitlets.Enum(["mse", "kl"], "mse").tag(sync=True)
    width = traitlets.Int(64).tag(sync=True)
    steps = traitlets.Int(1500, min=1).tag(sync=True)
    pace = traitlets.Enum(["watch", "full"], "watch").tag(sync=True)
    mapped = traitlets.Enum(["student", "control"], "student").tag(sync=True)
    result = traitlets.Dict().tag(sync=True)
    runs = traitlets.List().tag(sync=True)
    band = traitlets.Dict().tag(sync=True)
    digits = traitlets.Dict().tag(sync=True)

    def __init__(self, **settings):
        super().__init__(band=_band(), digits=packed_digits(), **settings)

    def still(self) -> str:
        """Give the band of many runs as a picture, and its table."""
        band = pd.DataFrame(self.band["points"], columns=["step", "5 %", "95 %", "mean"]).astype({"step": int})
        figure, ax = plt.subplots(figsize=(7, 3.2))
        middle = f"middle 90 % of {self.band['runs']} students"
        ax.fill_between(band.step, band["5 %"], band["95 %"], alpha=0.25, label=middle)
        ax.plot(band.step, band["mean"], label="their mean")
        ax.axhline(0.1, ls="--", lw=1, color="0.35", label="chance")
        ax.set(xlabel="student's training steps", ylabel="accuracy on test digits", ylim=(0, 1))
        ax.legend(loc="lower right")
        caption = f"What the laboratory shows when it runs: {self.band['runs']} students at its first settings."
        alt = "Accuracy of students along their training: a rising band far above the dashed line of chance."
        return still_picture(figure, band[band.step % 300 == 0], caption=caption, alt=alt)


class Plane(Explorer):
    """Chapter 1: drag the columns of W1 `hidden` (2 x 2) and W2 `heads` (2 x 3: class, two auxiliary logits).

    `result` holds the student's and the teacher's A, the angle between their class columns in degrees, the relative
    error and the share that passes the projector, as the browser computed them.
    """

    module = "plane"
    _esm = widget_script(module)
    hidden = traitlets.List(default_value=[[1.2, -0.5], [0.4, 1.0]]).tag(sync=True)
    heads = traitlets.List(default_value=[[0.6, 1.2, -0.5], [1.1, 0.3, 0.9]]).tag(sync=True)
    logits = traitlets.Enum([1, 2], 1).tag(sync=True)
    result = traitlets.Dict().tag(sync=True)

    def still(self) -> str:
        """Give the teacher's and the student's columns."""
        hidden, heads = np.array(self.hidden), np.array(self.heads)[:, : 1 + self.logits]
        student = theory.projected_student(np.zeros_like(hidden), teacher=hidden, aux_head=heads[:, 1:])
        columns = {"teacher": hidden @ heads, "student": student @ heads}
        names = ["class logit", *(f"auxiliary logit {place}" for place in range(1, 1 + self.logits))]
        listed = [(who, name, tip) for who, tips in columns.items() for name, tip in zip(names, tips.T)]
        figure = arrow_figure({f"{who}, {name}": tip for who, name, tip in listed})
        rows = pd.DataFrame([(who, name, *tip) for who, name, tip in listed])
        rows.columns = ["network", "column", "right", "up"]
        alt = "Arrows in the plane: the columns of the teacher and of its student, all student columns on one line."
        caption = "Columns of the teacher's A and of the student's, in the plane of inputs."
        return still_picture(figure, rows, caption=caption, alt=alt)


class Step(Explorer):
    """Theorem 1 in the plane: drag the teacher's `step` and the heads `seen` (the teacher's) and `own` (the student's).

    `result` holds the student's step `moved`, its inner product with the teacher's, and what the logit reports.
    """

    module = "step"
    _esm = widget_script(module)
    step = traitlets.List(default_value=[1.5, 0.5]).tag(sync=True)
    seen = traitlets.List(default_value=[0.5, 1.4]).tag(sync=True)
    own = traitlets.List(default_value=[-0.9, 0.8]).tag(sync=True)
    start = traitlets.Enum(["same", "other"], "same").tag(sync=True)
    result = traitlets.Dict().tag(sync=True)

    def still(self) -> str:
        """Give the teacher's step and the student's."""
        head = np.array(self.seen if self.start == "same" else self.own)
        moved = np.dot(self.step, self.seen) * head / (np.linalg.norm(self.seen) * np.linalg.norm(head))
        tips = {"teacher's step": np.array(self.step), "auxiliary head": head, "student's step": moved}
        rows = pd.DataFrame([(name, *tip) for name, tip in tips.items()], columns=["arrow", "right", "up"])
        alt = "Three arrows: the teacher's step, the auxiliary head, and the student's step along that head."
        return still_picture(arrow_figure(tips), rows, caption="The student moves along the auxiliary head.", alt=alt)


def arrow_figure(tips: dict[str, np.ndarray]) -> Figure:
    """Draw named arrows from the origin of a plane."""
    figure, ax = plt.subplots(figsize=(5.5, 3.2))
    room = 1.15 * max(np.abs(tip).max() for tip in tips.values())
    for place, (name, tip) in enumerate(tips.items()):
        width = 0.006 if "student" in name else 0.014
        ax.quiver(0, 0, *tip, angles="xy", scale_units="xy", scale=1, width=width, color=PALETTE[place], label=name)
    ax.set(xlim=(-room, room), ylim=(-room, room), aspect="equal")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@cache
def packed_digits() -> dict:
    """Pack the embedded digits: sorted by label, pixel by pixel over all images, deflated, in base 85."""
    images = data.load("digits")
    packed, counts = b"", {}
    for part in ("train", "test"):
        pixels, labels = (getattr(images, f"{part}_{what}").numpy() for what in ("images", "labels"))
        packed += pixels.reshape(len(labels), -1)[np.argsort(labels, kind="stable")].T.tobytes()
        counts[part] = np.bincount(labels, minlength=10).tolist()
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)  # a tenth smaller than the default strategy
    return {"pixels": base64.b85encode(deflate.compress(packed) + deflate.flush()).decode(), **counts}


@cache
def _band() -> dict:
    """The middle 90 % of the students of `laboratory.csv`: runs at the first settings, made by `make laboratory`."""
    runs = pd.read_csv(LABORATORY)
    by_step = runs.groupby("step").student
    levels = by_step.quantile([0.05, 0.95]).unstack().assign(mean=by_step.mean()).reset_index()
    return {"runs": int(runs.seed.nunique()), "points": levels.round(4).to_numpy().tolist()}


class Results(Explorer):
    """Any table of results: choose what to compare, split by, measure, and take differences to.

    `table` has a row per unit and setting. `factors` and `measures` name its columns to choose from (or map them to
    labels); `units` those that name a replicate, which paired differences hold on to. ValueError for a column that
    the table has not. `factor`, `hue`, `measure`, `baseline` and `where` are the first choice; `shown` holds the
    rows that are drawn, as the browser computed them.
    """

    module = "results"
    _esm = widget_script(module)
    data = traitlets.Dict().tag(sync=True)
    title = traitlets.Unicode("Explore the results").tag(sync=True)
    name = traitlets.Unicode("results").tag(sync=True)
    unit = traitlets.Unicode("models").tag(sync=True)
    factor = traitlets.Unicode().tag(sync=True)
    hue = traitlets.Unicode(NONE).tag(sync=True)
    measure = traitlets.Unicode().tag(sync=True)
    baseline = traitlets.Unicode(NONE).tag(sync=True)
    where = traitlets.Dict().tag(sync=True)
    shown = traitlets.List().tag(sync=True)

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        factors: Sequence[str] | dict[str, str],
        measures: Sequence[str] | dict[str, str] = ("accuracy",),
        units: Sequence[str] = stats.UNITS,
        **choices,
    ):
        packed = packed_table(table, _labeled(factors), _labeled(measures), units)
        levels = {name: found["levels"] for name, found in packed["factors"].items()}
        first = {"factor": next(iter(levels)), "measure": next(iter(packed["measures"]))}
        where = {name: found[-1] for name, found in levels.items()} | choices.pop("where", {})
        super().__init__(data=packed, where=where, **(first | choices))

    def still(self) -> str:
        """Give means with intervals by `factor`, where the other factors are as in `where`."""
        factors = {name: np.array(found["levels"])[found["codes"]] for name, found in self.data["factors"].items()}
        table = pd.DataFrame(factors | self.data["measures"] | {"unit": self.data["units"]})
        by = [name for name in (self.factor, self.hue) if name != NONE]
        for name in factors.keys() - set(by):
            table = table[table[name] == self.where[name]]
        means = stats.summary(table.dropna(subset=[self.measure]), by=by, value=self.measure)
        means["row"] = means[by].agg(", ".join, axis=1)
        figure, ax = plt.subplots(figsize=(7, 1.2 + 0.32 * len(means)))
        dot_intervals(ax, means, y="row").set_xlabel(self.measure)
        alt = f"Dot plot of {self.measure} by {', '.join(by)}, with intervals; the table below holds its numbers."
        caption = f"{self.title}. {bars_note(means.n, self.unit)}"
        return still_picture(figure, means[[*by, "mean", "low", "high", "n"]], caption=caption, alt=alt)


def _labeled(names: Sequence[str] | dict[str, str]) -> dict[str, str]:
    return names if isinstance(names, dict) else {name: name for name in names}


def packed_table(table: pd.DataFrame, factors: dict[str, str], measures: dict[str, str], units: Sequence[str]) -> dict:
    """Pack a table by columns under their labels: levels with codes, numbers of six digits, and one text per unit."""
    if unknown := [name for name in [*factors, *measures, *units] if name not in table]:
        raise ValueError(f"The table has no column {unknown[0]!r}: it has {', '.join(map(str, table))}.")
    coded, numbers = {}, {}
    for name, label in factors.items():
        codes, levels = pd.factorize(table[name].astype(str))
        coded[label] = {"levels": list(levels), "codes": codes.tolist()}
    for name, label in measures.items():
        numbers[label] = [None if pd.isna(value) else float(f"{value:.6g}") for value in table[name]]
    names = table[list(units)].astype(str).agg("-".join, axis=1)
    return {"factors": coded, "measures": numbers, "units": names.tolist()}


def laboratory_runs() -> Results:
    """Show the runs behind the laboratory's band as results, at five steps."""
    runs = pd.read_csv(LABORATORY)
    measures = ["student", "control", "ceiling", "teacher"]
    words = {"title": "Runs of the laboratory", "unit": "runs", "name": "laboratory"}
    five = runs[(runs.step > 0) & (runs.step % 300 == 0)]
    return Results(five, factors=["step"], measures=measures, units=["seed"], **words)
