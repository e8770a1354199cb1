"""How a notebook speaks to the book: numbers, figures, tables and notes that the press can find again.

In a live kernel these only display. Under the press, the folder named by SUBLIMINAL_RESULTS also gets a line
per recorded number and a CSV per table, and figures carry their caption and alternative text as metadata.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from sublearn.nets.settings import DATASETS
from sublearn.report.figures import style
from sublearn.stats import interval

matplotlib.use("agg")  # a figure appears where `show` puts it, not at the end of the cell that began it
style()


GLUE = "application/papermill.record/"  # the prefix under which MyST-NB finds what prose may quote


def _glue(name: str, value: float) -> None:
    """As `myst_nb.glue(name, value, display=False)`, whose import takes seconds in every kernel."""
    display({f"{GLUE}text/plain": repr(value)}, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": GLUE}})


def _results() -> Path | None:
    folder = os.environ.get("SUBLIMINAL_RESULTS")
    return Path(folder) if folder else None


def _hardware() -> str:
    """Device and number type of what this kernel computed; one that never imported torch worked in NumPy's float64."""
    if "torch" not in sys.modules:
        return "cpu float64"
    from sublearn.core import machine

    return machine.hardware()


def _save_table(name: str, table: pd.DataFrame) -> None:
    if folder := _results():
        table.to_csv(folder / f"{name.split(':')[-1]}.csv", index=False)


def record(
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    **labels: str,
) -> None:
    """Glue a number for the prose and keep it as a row of the results table.

    Prose quotes it as ``{glue:text}`name:.2f```, its interval as `name_low` and `name_high`, its n as `name_n`.
    `labels` are unit (default "accuracy"), setting (default "REF"), dataset and device.
    """
    row = {"name": name, "value": float(value), "low": low, "high": high, "n": n}
    row = {key: None if cell is None or cell != cell else cell for key, cell in row.items()}
    if row["value"] is None:
        raise ValueError(f"record({name!r}) got no number; give a finite value")
    for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high"), ("_n", "n")):
        if row[key] is not None:
            row[key] = int(row[key]) if key == "n" else float(row[key])
            _glue(name + suffix, row[key])
    if folder := _results():
        with (folder / "records.jsonl").open("a", encoding="utf8") as file:
            usual = {"unit": "accuracy", "setting": "REF", "dataset": "", "device": _hardware()}
            file.write(json.dumps(row | usual | labels) + "\n")


def estimate(values: Iterable[float]) -> dict[str, float]:
    """Give mean, low and high (95 % t interval) and n of one value per model; of a single model, no interval."""
    values = np.asarray(list(values), dtype=float)
    low, high = interval(values) if len(values) > 1 else (np.nan, np.nan)
    return {"mean": float(values.mean()), "low": low, "high": high, "n": len(values)}


def record_mean(
    name: str, values: Iterable[float], unit: str, *, change: Callable[[float], float] = float, **labels: str
) -> dict[str, float]:
    """Record the `estimate` of values and give it; `change`, such as exp, is applied to the mean and both ends."""
    found = estimate(values)
    found |= {key: float(change(found[key])) for key in ("mean", "low", "high")}
    record(name, found["mean"], low=found["low"], high=found["high"], n=found["n"], unit=unit, **labels)
    return found


def record_summary(name: str, row: pd.Series, **labels: str) -> None:
    """Record one row of a `stats.summary` or `stats.paired` table with its interval and n."""
    value = row["mean"] if "mean" in row else row["difference"]
    record(name, value, low=row["low"], high=row["high"], n=row["n"], **labels)


def show(figure: Figure, *, name: str, caption: str, alt: str, table: pd.DataFrame | None = None) -> None:
    """Display a figure as SVG with its caption, its alternative text and, under `name` ("fig:..."), its number."""
    if not name.startswith("fig:"):
        raise ValueError(f"figure name is {name!r}; it must start with 'fig:' so that prose can refer to it")
    figure = getattr(figure, "figure", figure)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    label = {"name": name, "caption": caption, "alt": alt}
    display({"image/svg+xml": svg.getvalue(), "text/plain": alt}, raw=True, metadata={"sublearn": label})
    if table is not None:
        _save_table(name, table)
    if not _results():
        display(Markdown(caption))


def tabulate(table: pd.DataFrame, *, name: str, caption: str, formats: dict[str, str] | None = None) -> None:
    """Display a table with its caption and keep it as a CSV; `formats` maps a column to a format such as "{:.3f}"."""
    styler = table.style.hide(axis="index").format(formats, na_rep="–").set_caption(caption)
    html = styler.to_html(table_uuid=name.split(":")[-1], table_attributes='class="dataframe"')
    display({"text/html": html, "text/plain": table.to_string(index=False)}, raw=True)
    _save_table(name, table)


def note(dataset: str) -> None:
    """Say on the page that it was not built on MNIST, where that is so."""
    if dataset == "mnist":
        return
    text = f"This copy of the page was built on {DATASETS[dataset]}, not on MNIST: its numbers are not the book's."
    display(Markdown(f":::{{warning}}\n{text}\n:::"))
