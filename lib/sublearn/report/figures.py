"""One look for every figure, and the sentence under it that says what the bars are."""

from collections.abc import Iterable, Sequence
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublearn.stats import share_interval

WIDTH = 7.0  # inches: the text column of the book
LONG_NAME = 8  # characters: longer levels stand one below the other
PALETTE = sns.color_palette("colorblind")
NETWORKS = {"student": PALETTE[1], "teacher": PALETTE[0], "ceiling": "0.55"}
CHANCE_LOOK = {
    "ls": "--",
    "lw": 1,
    "color": "0.35",
}
MEAN_LOOK = {
    "fmt": "o",
    "ms": 6,
    "color": PALETTE[0],
    "capsize": 4,
    "lw": 2,
    "zorder": 3,
}
MODEL_LOOK = {
    "s": 12,
    "color": "0.55",
    "alpha": 0.6,
    "linewidth": 0,
    "zorder": 2,
}
REFERENCE_LOOK = {
    "height": 0.7,
    "color": PALETTE[0],
    "alpha": 0.18,
    "zorder": 1,
    "label": "reference run, 95 % interval",
}
LINE_LOOK = {"marker": "o", "ms": 4, "capsize": 3}
BAND_LOOK = {"alpha": 0.18, "linewidth": 0, "zorder": 1}
NETWORK_LOOK = {
    "hue": "network",
    "hue_order": list(NETWORKS),
    "palette": NETWORKS,
    "markers": ["o", "s", "D"],
    "markersize": 4,
    "linewidth": 1.3,
    "errorbar": share_interval,
}


def style() -> None:
    """Set the defaults of seaborn and matplotlib for the book.

    Colorblind palette, 10 pt, and the same bytes on each run.
    """
    options = {
        "figure.figsize": (WIDTH, 3.6),
        "figure.dpi": 100,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.35,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "svg.hashsalt": "subliminal-learning",
        "svg.fonttype": "path",
    }
    sns.set_theme(
        context="notebook", style="ticks", palette="colorblind", font_scale=0.9, rc=options
    )


def bars_note(n: int | Sequence[int] | pd.Series, unit: str = "models") -> str:
    """Tail of a caption: what a point is, over how many, and what its bar is.

    >>> bars_note(8)
    'Points are means over n = 8 models, bars are 95 % intervals.'
    """
    low = np.min(n)
    high = np.max(n)
    count = f"{low:.0f}"
    if high > low:
        count += f" to {high:.0f}"
    return f"Points are means over n = {count} {unit}, bars are 95 % intervals."


def bar_lengths(table: pd.DataFrame) -> np.ndarray:
    """Lengths (2, row) of the bars of a `stats.summary` or `stats.paired` table, to low and high.

    Rounding can put an end beyond the middle where all values are equal; a length stays positive.
    """
    middle = table["mean" if "mean" in table else "difference"].to_numpy()
    ends = table[["low", "high"]].to_numpy().T
    return np.abs(ends - middle)


def dot_intervals(
    ax: Axes,
    table: pd.DataFrame,
    *,
    y: str,
    models: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
) -> Axes:
    """Horizontal dot plot of a `stats.summary` table: one row per level of `y`, in its order.

    `models`, if given, holds the single models (columns `y` and accuracy), drawn as faint dots
    below the means. `reference`, if given, is the same table of the reference run: its intervals
    are faint bands behind.
    """
    levels = list(table[y])
    heights = np.arange(len(levels))
    if reference is not None:
        known = reference[reference[y].isin(levels)]
        places = known[y].map(levels.index)
        ax.barh(places, known["high"] - known["low"], left=known["low"], **REFERENCE_LOOK)
    if models is not None:
        generator = np.random.default_rng(0)
        jitter = generator.uniform(-0.16, 0.16, len(models))
        model_heights = models[y].map(levels.index) + jitter
        ax.scatter(models["accuracy"], model_heights, **MODEL_LOOK)
    ax.errorbar(table["mean"], heights, xerr=bar_lengths(table), **MEAN_LOOK)
    ax.set_yticks(heights, levels)
    ax.set_ylim(len(levels) - 0.5, -0.5)  # from above, with room around the first and the last
    return ax


def line_intervals(
    ax: Axes, table: pd.DataFrame, *, x: str, reference: pd.DataFrame | None = None, **look
) -> Axes:
    """Line of a `stats.summary` or `stats.paired` table over its numbers in column `x`.

    `reference`, if given, is the same table of the reference run: its intervals are a faint band in
    the color of the line. `look` goes to matplotlib's `errorbar`.
    """
    middle = table["mean" if "mean" in table else "difference"]
    line, *_ = ax.errorbar(table[x], middle, yerr=bar_lengths(table), **(LINE_LOOK | look))
    if reference is not None:
        known = reference.sort_values(x)
        ax.fill_between(known[x], known["low"], known["high"], color=line.get_color(), **BAND_LOOK)
    return ax


def readings(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of student, teacher and ceiling in one column, for arms named "factor: level".

    `table` comes from `experiment.run` with the measure "ceiling"; the last epoch of every student
    counts. Columns: those of the table, network, factor and level.
    """
    students = table.query("role == 'student' and epoch == epochs")
    students = students.assign(network="student")
    teachers = table.query("role == 'teacher'")
    teachers = teachers.assign(network="teacher")
    ceilings = teachers.assign(network="ceiling", accuracy=teachers.ceiling)
    rows = pd.concat([students, teachers, ceilings])
    parts = rows.arm.str.split(": ", n=1, expand=True)
    rows[["factor", "level"]] = parts
    return rows


def panels(
    rows: pd.DataFrame,
    factors: Sequence[str],
    *,
    reference: pd.DataFrame | None = None,
    chance: float = 0.1,
    columns: int = 2,
) -> Figure:
    """One small panel per factor: means with 95 % intervals of the networks at each level.

    `rows` comes from `readings`; levels are drawn in the order of the arms, long names one below
    the other. `reference`, if given, is the `stats.summary` by factor, level and network of the
    reference run: its intervals are faint bands behind. `chance` is the accuracy of guessing.
    """
    lines = -(-len(factors) // columns)
    size = (WIDTH, 2.4 * lines + 0.4)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for ax, factor in zip(axes.flat, factors):
        factor_rows = rows.query("factor == @factor")
        _panel(ax, factor_rows, chance)
        if reference is not None:
            known = reference[reference.factor == factor]
            _bands(ax, known, list(factor_rows.level.unique()))
        ax.set_title(factor)
        handles = ax.get_legend_handles_labels()
        ax.get_legend().remove()
    for ax in axes.flat[len(factors) :]:
        ax.remove()
    figure.legend(*handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3)
    figure.tight_layout()
    return figure


def _one_below_the_other(levels: Iterable[str]) -> bool:
    return max(map(len, levels)) > LONG_NAME


def _panel(ax: Axes, rows: pd.DataFrame, chance: float) -> None:
    draw = partial(sns.pointplot, ax=ax, **NETWORK_LOOK)
    if _one_below_the_other(rows.level):
        wrapped = rows.level.map(partial(fill, width=18))
        rows = rows.assign(level=wrapped)
        draw(rows, x="accuracy", y="level", linestyle="none")
        ax.axvline(chance, **CHANCE_LOOK)
        ax.tick_params(axis="y", labelsize=7.5)
        ax.set(xlabel="accuracy", ylabel="", xlim=(0, 1))
    else:
        draw(rows, x="level", y="accuracy")
        ax.axhline(chance, **CHANCE_LOOK)
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set(xlabel="", ylabel="accuracy", ylim=(0, 1))


def _bands(ax: Axes, known: pd.DataFrame, levels: list[str]) -> None:
    """Intervals of the reference run behind a panel, in the colors of the networks."""
    known = known[known.level.isin(levels)]
    places = known.level.map(levels.index)
    colors = known.network.map(NETWORKS)
    spans = known["high"] - known["low"]
    look = {"color": colors, "alpha": REFERENCE_LOOK["alpha"], "zorder": 1}
    if _one_below_the_other(levels):
        ax.barh(places, spans, left=known["low"], **look)
    else:
        ax.bar(places, spans, bottom=known["low"], **look)


def radial_power(images: np.ndarray) -> pd.DataFrame:
    """Mean power per pixel of square images `(image, pixel)` by spatial frequency.

    Frequencies are rings of one cycle per image. Columns: frequency and power.
    """
    images = np.asarray(images, dtype=float)
    side = round(images.shape[1] ** 0.5)
    squares = images.reshape(-1, side, side)
    amplitudes = np.abs(np.fft.fft2(squares))
    power = (amplitudes**2).mean(axis=0)
    power /= side**2
    cycles = np.fft.fftfreq(side, 1 / side)
    distance = np.hypot(cycles[:, None], cycles)
    rings = distance.round().ravel()
    rings = rings.astype(int)
    sums = np.bincount(rings, power.ravel())
    means = sums / np.bincount(rings)
    count = side // 2 + 1
    columns = {"frequency": range(count), "power": means[:count]}
    return pd.DataFrame(columns)


def chance_line(ax: Axes, classes: int, *, vertical: bool = True) -> None:
    """Dashed line at the accuracy of guessing, 1/classes, with its label."""
    draw = ax.axvline if vertical else ax.axhline
    chance = 1 / classes
    draw(chance, label="chance", **CHANCE_LOOK)
