"""The explorers of the book: laboratory, plane, step, results, noise bench, entangled partners."""

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode

from sublearn import stats, theory
from sublearn.explorers.base import Explorer, Still, base64_text
from sublearn.nets import data
from sublearn.nets.settings import INPUTS
from sublearn.report.figures import PALETTE, bars_note, dot_intervals, style

Strings = Sequence[str]
REFERENCE = Path(__file__).resolve().parents[3] / "book" / "reference"
LABORATORY = REFERENCE / "laboratory.csv"
RECORDED = REFERENCE / "laboratory-run.json"  # one whole run; `make laboratory` made both
NONE = "(none)"
NOISE_COLUMNS = ["family", "parameter", "sample", "spectrum", "singular"]
ACCURACY_COLUMNS = ["family", "parameter", "mean", "low", "high", "n"]
PARTNER_MEASURES = {
    "A": "from animal to number. How far a love of the animal lifts the number as an answer, as a "
    "log-ratio of probabilities in nats: 0 is no change, 0.7 a doubling, 2.3 ten times as much.",
    "N": "from number to animal. How far a love of the number lifts the animal, in the same unit.",
}
BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}  # a legend, right of its axes
style()  # for the still pictures, also where no notebook has asked for it


class Laboratory(Explorer):
    """A teacher, a student and a control that train in the reader's browser on 8 x 8 digits.

    Traits are what its controls set. `result` holds the latest finished run (configuration,
    accuracies and `points`: step, student, control), `runs` all of them; `tests/explorers/twin.py`
    recomputes a run from its configuration. `recorded` is a run that the same scripts made before:
    it is shown until the reader plays one.
    """

    module = "laboratory"
    seed = Int(1, min=0)
    aux_dim = Int(3, min=1, max=20)
    perturbation = Float(0.0, min=0.0, max=1.0)
    lr = Float(0.003, min=0.0)
    shared = List(["hidden", "class_head", "aux_head"])
    inputs = Enum(["noise", "digits"], "noise")
    loss = Enum(["mse", "kl"], "mse")
    width = Int(64)
    steps = Int(1500, min=1)
    pace = Enum(["watch", "full"], "watch")
    mapped = Enum(["student", "control"], "student")
    result = Dict()
    runs = List()
    band = Dict()
    recorded = Dict()
    digits = Dict()

    def __init__(self, **settings):
        recorded = json.loads(RECORDED.read_text(encoding="utf8"))
        given = {"band": _band(), "recorded": recorded, "digits": packed_digits()}
        super().__init__(**given, **settings)

    def draw(self, ax: Axes) -> Still:
        """Draw the band of many runs."""
        runs = self.band["runs"]
        points = self.band["points"]
        band = pd.DataFrame(points, columns=["step", "5 %", "95 %", "mean"])
        band.step = band.step.astype(int)
        label = f"middle 90 % of {runs} students"
        ax.fill_between(band.step, band["5 %"], band["95 %"], alpha=0.25, label=label)
        ax.plot(band.step, band["mean"], label="their mean")
        ax.axhline(0.1, ls="--", lw=1, color="0.35", label="chance")
        ax.set(xlabel="student's training steps", ylabel="accuracy on test digits", ylim=(0, 1))
        ax.legend(loc="lower right")
        table = band.query("step % 300 == 0")
        caption = f"What the laboratory shows when it runs: {runs} students at its first settings."
        alt = (
            "Accuracy of students along their training: "
            "a rising band far above the dashed line of chance."
        )
        return table, caption, alt


@cache
def packed_digits() -> dict:
    """Pack the digits: sorted by label, pixel by pixel over all images, deflated, in base 85."""
    digits = data.load("digits")._asdict()
    packed = {}
    pixels = b""
    for part in ("train", "test"):
        images = digits[f"{part}_images"].numpy()
        labels = digits[f"{part}_labels"].numpy()
        order = np.argsort(labels, kind="stable")
        pixels += images[order].T.tobytes()
        packed[part] = np.bincount(labels).tolist()
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)  # a tenth smaller than the default
    compressed = deflate.compress(pixels) + deflate.flush()
    packed["pixels"] = base64.b85encode(compressed).decode()
    return packed


@cache
def _band() -> dict:
    """Return the middle 90 % of the students of `laboratory.csv`, which `make laboratory` made."""
    runs = pd.read_csv(LABORATORY)
    by_step = runs.groupby("step").student
    points = by_step.quantile([0.05, 0.95]).unstack()
    points["mean"] = by_step.mean()
    points = points.round(4).reset_index()
    return {"runs": runs.seed.nunique(), "points": points.values.tolist()}


class Plane(Explorer):
    """Chapter 1: drag the columns of W1 `hidden` (2 x 2) and of W2 `heads` (2 x 3).

    The first column of `heads` is the class logit, the others are auxiliary logits.
    `result` holds the student's and the teacher's A, the angle between their class columns in
    degrees, the relative error and the share that passes the projector, as the browser computed
    them.
    """

    module = "plane"
    hidden = List([[1.2, -0.5], [0.4, 1.0]])
    heads = List([[0.6, 1.2, -0.5], [1.1, 0.3, 0.9]])
    logits = Enum([1, 2], 1)
    result = Dict()

    def draw(self, ax: Axes) -> Still:
        """Draw the teacher's and the student's columns."""
        hidden = np.array(self.hidden)
        heads = np.array(self.heads)
        heads = heads[:, : 1 + self.logits]
        aux_head = heads[:, 1:]
        start = np.zeros_like(hidden)
        student = theory.projected_student(start, teacher=hidden, aux_head=aux_head)
        columns = ["class logit", "auxiliary logit 1", "auxiliary logit 2"]
        rows = []
        for network, weights in (("teacher", hidden), ("student", student)):
            products = weights @ heads
            for column, tip in zip(columns, products.T):
                rows.append((network, column, *tip))
        table = pd.DataFrame(rows, columns=["network", "column", "right", "up"])
        _draw_arrows(ax, table)
        caption = "Columns of the teacher's A and of the student's, in the plane of inputs."
        alt = (
            "Arrows in the plane: the columns of the teacher and of its student, "
            "all student columns on one line."
        )
        return table, caption, alt


class Step(Explorer):
    """Theorem 1 in the plane: drag the teacher's `step`, its head and the student's own.

    `result` holds the student's step `moved`, its inner product with the teacher's, and what the
    logit reports.
    """

    module = "step"
    step = List([1.5, 0.5])
    teacher_head = List([0.5, 1.4])
    student_head = List([-0.9, 0.8])
    start = Enum(["same", "other"], "same")
    result = Dict()

    def draw(self, ax: Axes) -> Still:
        """Draw the teacher's step and the student's."""
        same = self.start == "same"
        head = self.teacher_head if same else self.student_head
        scale = np.linalg.norm(self.teacher_head) * np.linalg.norm(head)
        report = np.dot(self.step, self.teacher_head)
        moved = np.multiply(report, head) / scale
        arrows = [self.step, head, moved]
        table = pd.DataFrame(arrows, columns=["right", "up"])
        table.insert(0, "arrow", ["teacher's step", "auxiliary head", "student's step"])
        _draw_arrows(ax, table)
        caption = "The student moves along the auxiliary head."
        alt = (
            "Three arrows: the teacher's step, the auxiliary head, "
            "and the student's step along that head."
        )
        return table, caption, alt


def _draw_arrows(ax: Axes, table: pd.DataFrame) -> None:
    """Draw arrows from the origin of a plane: names in the first columns, then right and up."""
    ax.figure.set_size_inches(5.5, 3.2)
    scale = {"angles": "xy", "scale_units": "xy", "scale": 1}
    for color, row in zip(PALETTE, table.itertuples(index=False)):
        *names, right, up = row
        label = ", ".join(names)
        width = 0.006 if "student" in label else 0.014
        ax.quiver(0, 0, right, up, width=width, color=color, label=label, **scale)
    longest = table[["right", "up"]].abs().max(axis=None)
    limits = (-1.15 * longest, 1.15 * longest)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.legend(**BESIDE)


class Results(Explorer):
    """Any table of results: choose what to compare, split by, measure, and take differences to.

    `table` has a row per unit and setting. `factors` and `measures` name its columns to choose
    from; `units` those that name a replicate, which paired differences hold on to. ValueError for
    a column that the table has not. `factor`, `hue`, `measure`, `baseline` and `where` are the
    first choice; `shown` holds the rows that are drawn, as the browser computed them.
    """

    module = "results"
    data = Dict()
    title = Unicode("Explore the results")
    name = Unicode("results")
    unit = Unicode("models")
    factor = Unicode()
    hue = Unicode(NONE)
    measure = Unicode()
    baseline = Unicode(NONE)
    where = Dict()
    shown = List()

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        factors: Strings,
        measures: Strings = ("accuracy",),
        units: Strings = stats.UNITS,
        **traits,
    ):
        packed = packed_table(table, factors, measures, units)
        where = {}
        for name, column in packed["factors"].items():
            where[name] = column["levels"][-1]
        traits["where"] = where | traits.get("where", {})
        traits.setdefault("factor", factors[0])
        traits.setdefault("measure", measures[0])
        super().__init__(data=packed, **traits)

    def draw(self, ax: Axes) -> Still:
        """Draw means with intervals by `factor`, where the other factors are as in `where`."""
        table = pd.DataFrame(self.data["measures"])
        for name, column in self.data["factors"].items():
            levels = np.array(column["levels"])
            table[name] = levels[column["codes"]]
        by = [name for name in (self.factor, self.hue) if name != NONE]
        for name in set(self.data["factors"]).difference(by):
            chosen = table[name] == self.where[name]
            table = table[chosen]
        table = table.dropna(subset=self.measure)
        means = stats.summary(table, by=by, value=self.measure)
        means["row"] = means[by].agg(", ".join, axis=1)
        height = 1.2 + 0.32 * len(means)
        ax.figure.set_size_inches(7, height)
        dot_intervals(ax, means, y="row")
        ax.set_xlabel(self.measure)
        numbers = means[[*by, "mean", "low", "high", "n"]]
        caption = f"{self.title}. {bars_note(means.n, self.unit)}"
        alt = (
            f"Dot plot of {self.measure} by {', '.join(by)}, with intervals; "
            "the table below holds its numbers."
        )
        return numbers, caption, alt


def laboratory_runs() -> Results:
    """Show the runs behind the laboratory's band as results, at five steps."""
    runs = pd.read_csv(LABORATORY)
    return Results(
        runs.query("step > 0 and step % 300 == 0"),
        factors=["step"],
        measures=["student", "control", "ceiling", "teacher"],
        units=["seed"],
        title="Runs of the laboratory",
        unit="runs",
        name="laboratory",
    )


class NoiseBench(Explorer):
    """Families of noise: a sample, its spectra, and the accuracy measured at the nearest setting.

    `looks` has a row per family and parameter with `sample` (side x side, from -1 to 1), `spectrum`
    (power by radial frequency) and `singular` (singular values). `accuracies` has the columns
    family, parameter, mean, low, high and n, perhaps of fewer parameters. In a live notebook
    `recompute(family, parameter)` may return a further such row, as a dict, when the reader asks
    for it. ValueError for a column that is missing.
    """

    module = "noise"
    looks = List()
    accuracies = List()
    family = Unicode()
    parameter = Float()
    title = Unicode("The noise bench")
    label = Unicode("parameter")
    meanings = Dict()  # of the parameter, by family, with its unit
    live = Bool(False)

    def __init__(
        self,
        looks: pd.DataFrame,
        accuracies: pd.DataFrame,
        *,
        recompute: Callable[[str, float], dict] | None = None,
        **traits,
    ):
        check_columns(looks, NOISE_COLUMNS)
        samples = [_packed_sample(row) for row in looks.itertuples()]
        rows = _packed_accuracies(accuracies)
        for name in ("family", "parameter"):
            traits.setdefault(name, samples[0][name])
        meanings = {name: family.strength for name, family in INPUTS.items()}
        traits.setdefault("meanings", meanings)
        live = recompute is not None
        super().__init__(looks=samples, accuracies=rows, live=live, **traits)
        self._recompute = recompute
        self.on_msg(self._on_message)

    def _on_message(self, _, message: dict, __) -> None:
        if message.get("do") == "compute" and self._recompute:
            row = self._recompute(message["family"], message["parameter"])
            table = pd.DataFrame([row])
            self.accuracies = self.accuracies + _packed_accuracies(table)

    def draw(self, ax: Axes) -> Still:
        """Draw the measured accuracies of every family."""
        table = pd.DataFrame(self.accuracies, columns=ACCURACY_COLUMNS)
        for family, rows in table.groupby("family", sort=False):
            ends = rows[["low", "high"]].astype(float)
            bars = ends.sub(rows["mean"], axis=0).abs().to_numpy()
            ax.errorbar("parameter", "mean", bars.T, data=rows, fmt="o", capsize=4, label=family)
        ax.set(xlabel=self.label, ylabel="accuracy on test images", ylim=(0, 1))
        ax.legend(**BESIDE, fontsize=8)
        caption = f"{self.title}: accuracies with 95 % intervals."
        alt = (
            f"Accuracy of students against the {self.label} of the noise: "
            "points with intervals, a color per family."
        )
        return table, caption, alt


class Partners(Explorer):
    """All pairs of words and numbers, in a scatter to search, and the partners of what is chosen.

    `measures` maps a label to a matrix (word, number). Values are embedded in 8 bits, so they are
    good to a 250th of their range. `chosen` is a word, a number, or both, as the reader types it;
    `across` and `upward` name measures. ValueError for a matrix of another shape or without finite
    values.
    """

    module = "partners"
    words = List()
    numbers = List()
    measures = Dict()
    chosen = Unicode()
    across = Unicode()
    upward = Unicode()
    title = Unicode("Entangled partners")
    meanings = Dict(PARTNER_MEASURES)  # of the measures that need a word

    def __init__(
        self,
        words: Strings,
        numbers: Strings,
        measures: dict[str, np.ndarray],
        **traits,
    ):
        shape = (len(words), len(numbers))
        packed = {}
        for name, matrix in measures.items():
            matrix = np.asarray(matrix, dtype=float)
            if matrix.shape != shape or not np.isfinite(matrix).all():
                raise ValueError(
                    f"measure {name!r} must hold finite numbers of shape {shape}, "
                    "one per word and number"
                )
            packed[name] = _packed_matrix(matrix)
        first, *_, last = measures
        traits.setdefault("chosen", words[0])
        traits.setdefault("across", first)
        traits.setdefault("upward", last)
        super().__init__(words=list(words), numbers=list(numbers), measures=packed, **traits)

    def matrix(self, measure: str) -> np.ndarray:
        """Return a measure as it is embedded (word, number)."""
        packed = self.measures[measure]
        decoded = base64.b64decode(packed["codes"])
        codes = np.frombuffer(decoded, dtype=np.int8)
        values = codes * packed["scale"] / 127
        return values.reshape(len(self.words), -1)

    def draw(self, ax: Axes) -> Still:
        """Draw all pairs; the table holds each word's partner that is largest by `upward`."""
        across = self.matrix(self.across)
        upward = self.matrix(self.upward)
        best = upward.argmax(axis=1)
        rows = range(len(best))
        table = pd.DataFrame({"word": self.words})
        table["number"] = np.take(self.numbers, best)
        table[self.upward] = upward[rows, best]
        table[self.across] = across[rows, best]
        ax.scatter(across, upward, s=2, linewidth=0, alpha=0.4, rasterized=True)
        ax.set(xlabel=self.across, ylabel=self.upward)
        caption = f"{self.title}: all pairs, without means or bars."
        alt = (
            f"Scatter of {self.upward} against {self.across}, a point per pair; "
            "the table holds each word's best."
        )
        return table, caption, alt


def check_columns(table: pd.DataFrame, names: Strings) -> None:
    """Raise ValueError for a column that a table has not."""
    for name in names:
        if name not in table:
            columns = ", ".join(map(str, table))
            raise ValueError(f"The table has no column {name!r}: it has {columns}; rename one.")


def packed_table(
    table: pd.DataFrame, factors: Strings, measures: Strings, units: Strings, digits: int = 6
) -> dict:
    """Pack a table by columns: factors as levels and codes, measures, and one text per unit."""
    check_columns(table, [*factors, *measures, *units])
    packed = {"factors": {}, "measures": {}}
    for name in factors:
        texts = table[name].astype(str)
        codes, levels = pd.factorize(texts)
        packed["factors"][name] = {"levels": list(levels), "codes": codes.tolist()}
    for name in measures:
        packed["measures"][name] = _rounded(table[name], digits=digits)
    replicates = table[list(units)].astype(str)
    packed["units"] = replicates.agg("-".join, axis=1).tolist()
    return packed


def _packed_sample(row: NamedTuple) -> dict:
    """Pack a row of `looks`, its sample as brightness: 0 at -1, 255 at 1."""
    sample = np.asarray(row.sample, dtype=float)
    share = (sample + 1) / 2
    brightness = np.round(255 * share).clip(0, 255)
    pixels = brightness.astype(np.uint8)
    return {
        "family": str(row.family),
        "parameter": float(row.parameter),
        "side": len(sample),
        "pixels": base64_text(pixels.tobytes()),
        "spectrum": _rounded(row.spectrum, digits=4),
        "singular": _rounded(row.singular, digits=4),
    }


def _packed_accuracies(table: pd.DataFrame) -> list[dict]:
    """Pack rows with None for an interval that is missing: JSON has no NaN."""
    check_columns(table, ACCURACY_COLUMNS)
    table = table[ACCURACY_COLUMNS]
    table = table.astype({"family": str, "parameter": float, "n": int})
    complete = table.astype(object).where(table.notna(), None)
    return complete.to_dict("records")


def _packed_matrix(matrix: np.ndarray) -> dict:
    scale = float(np.abs(matrix).max()) or 1.0
    values = np.round(matrix / scale * 127)
    codes = values.astype(np.int8)
    return {"scale": float(f"{scale:.6g}"), "codes": base64_text(codes.tobytes())}


def _rounded(values: Sequence[float], *, digits: int) -> list[float | None]:
    """Round to significant digits, which keeps a page small; None stands for a missing value."""
    rounded = []
    for value in values:
        missing = pd.isna(value)
        rounded.append(None if missing else float(f"{value:.{digits}g}"))
    return rounded
