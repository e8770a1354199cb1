"""One look for every figure, and the sentence under it that says what the bars are."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

WIDTH = 7.0  # inches: the text column of the book
PALETTE = sns.color_palette("colorblind")
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


def chance_line(ax: Axes, classes: int, *, vertical: bool = True) -> None:
    """Dashed line at the accuracy of guessing, 1/classes, with its label."""
    (ax.axvline if vertical else ax.axhline)(1 / classes, ls="--", lw=1, color="0.35", label="chance")
