"""One look for every figure, and the sentence under it that says what the bars are."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublearn.stats import interval

WIDTH = 7.0  # inches: the text column of the book
PALETTE = sns.color_palette("colorblind")
NETWORKS = {"student": PALETTE[1], "teacher": PALETTE[0], "ceiling": "0.55"}
ROLE_COLORS = {"teacher": PALETTE[0], "student": PALETTE[1], "control": PALETTE[7], "untrained": PALETTE[2]}


def style() -> None:
    """Set seaborn's and matplotlib's defaults for the book (colorblind palette, 10 pt, identical bytes on each run)."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.9)
    plt.rcParams.update(
        {
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
    )


def bars_note(n: int | Sequence[int] | pd.Series, unit: str = "models") -> str:
    """Tail of a caption: what a point is, over how many, and what its bar is.

    >>> bars_note(8)
    'Points are means over n = 8 models, bars are 95 % t intervals.'
    """
    low, high = int(np.min(n)), int(np.max(n))
    count = f"{low}" if low == high else f"{low} to {high}"
    return f"Points are means over n = {count} {unit}, bars are 95 % t intervals."


def dot_intervals(ax: Axes, table: pd.DataFrame, *, y: str, models: pd.DataFrame | None = None) -> Axes:
    """Horizontal dot plot of a `stats.summary` table: one row per level of `y`, in the table's order.

    `models`, if given, holds the single models (columns `y` and accuracy), drawn as faint dots below the means.
    """
    order = list(table[y])
    if models is not None:
        places = models[y].map({level: i for i, level in enumerate(order)})
        jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(models))
        ax.scatter(models["accuracy"], places + jitter, s=12, color="0.55", alpha=0.6, linewidth=0, zorder=2)
    center, places = table["mean"].to_numpy(), np.arange(len(order))
    bars = np.abs(table[["low", "high"]].to_numpy().T - center)
    ax.errorbar(center, places, xerr=bars, fmt="o", ms=6, color=PALETTE[0], capsize=4, lw=2, zorder=3)
    ax.set_yticks(places, order)
    ax.invert_yaxis()
    return ax


def readings(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of student, teacher and ceiling in one column, with the network named, for arms "factor: level".

    `table` comes from `experiment.run` with the measure "ceiling"; the last epoch of every student counts.
    """
    students = table[(table.role == "student") & (table.epoch == table.epochs)].assign(network="student")
    teachers = table[table.role == "teacher"]
    ceilings = teachers.assign(network="ceiling", accuracy=teachers.ceiling)
    rows = pd.concat([students, teachers.assign(network="teacher"), ceilings])
    rows[["factor", "level"]] = rows.arm.str.split(": ", n=1, expand=True)
    return rows


def panels(rows: pd.DataFrame, factors: Sequence[str], *, chance: float = 0.1, columns: int = 2) -> Figure:
    """One small panel per factor: means with 95 % t intervals of student, teacher and ceiling at each level.

    `rows` comes from `readings`; levels are drawn in the order of the arms, long names one below the other.
    """
    lines = -(-len(factors) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(WIDTH, 2.4 * lines + 0.4), squeeze=False)
    for ax, factor in zip(axes.flat, factors):
        _panel(ax, rows[rows.factor == factor], factor, chance)
        handles = ax.get_legend_handles_labels()
        ax.get_legend().remove()
    for ax in axes.flat[len(factors) :]:
        ax.remove()
    figure.legend(*handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3)
    figure.tight_layout()
    return figure


def _panel(ax: Axes, drawn: pd.DataFrame, factor: str, chance: float) -> None:
    looks = {"hue": "network", "hue_order": list(NETWORKS), "palette": NETWORKS, "markers": ["o", "s", "D"]}
    looks |= {"errorbar": interval, "markersize": 4, "linewidth": 1.3, "ax": ax}
    if drawn.level.str.len().max() > 8:
        drawn = drawn.assign(level=drawn.level.map(lambda level: fill(level, 18)))
        sns.pointplot(drawn, y="level", x="accuracy", linestyle="none", **looks)
        ax.axvline(chance, ls="--", lw=1, color="0.35")
        ax.tick_params(axis="y", labelsize=7.5)
        ax.set(title=factor, xlabel="accuracy", ylabel="", xlim=(0, 1))
    else:
        sns.pointplot(drawn, x="level", y="accuracy", **looks)
        ax.axhline(chance, ls="--", lw=1, color="0.35")
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set(title=factor, xlabel="", ylabel="accuracy", ylim=(0, 1))


def radial_power(images: np.ndarray) -> pd.DataFrame:
    """Mean power per pixel of square images (image, pixel) by spatial frequency, in rings of one cycle per image."""
    images = np.asarray(images, dtype=float)
    side = round(images.shape[1] ** 0.5)
    cycles = np.fft.fftfreq(side, 1 / side)
    ring = np.hypot(cycles[:, None], cycles).round().astype(int).ravel()
    power = (np.abs(np.fft.fft2(images.reshape(-1, side, side))) ** 2).mean(0).ravel() / side**2
    means = np.bincount(ring, power) / np.bincount(ring)
    return pd.DataFrame({"frequency": range(side // 2 + 1), "power": means[: side // 2 + 1]})


def chance_line(ax: Axes, classes: int, *, vertical: bool = True) -> None:
    """Dashed line at the accuracy of guessing, 1/classes, with its label."""
    (ax.axvline if vertical else ax.axhline)(1 / classes, ls="--", lw=1, color="0.35", label="chance")
