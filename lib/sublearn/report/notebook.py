"""What a notebook tells the book: numbers, figures, tables and notes that the press finds again.

In a live kernel these only display. Under the press, the folder named by SUBLIMINAL_RESULTS also
gets a line per recorded number and a CSV per table, and figures carry their caption and alternative
text as metadata.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from sublearn.nets.settings import DATASETS
from sublearn.report.figures import bars_note, style
from sublearn.report.scorecard import (
    OWN,
    RESULTS,
    contrasts,
    read_claims,
    read_records,
    scorecard,
)
from sublearn.stats import interval_of

# a figure appears where `show` puts it, not at the end of the cell that began it
matplotlib.use("agg")
style()

RECORDS: list[dict] = []  # what this kernel has recorded
GLUE = "application/papermill.record/"  # the prefix under which MyST-NB finds what prose may quote


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

    Prose quotes it as ``{glue:text}`name:.2f```, its interval as `name_low` and `name_high`, its n
    as `name_n`. `labels` are unit (default "accuracy"), setting (default "REF"), dataset and device
    (default: where and in which number type this kernel computed).
    Errors: ValueError where `value` is no number.
    """
    numbers = {"value": _number(value), "low": _number(low), "high": _number(high)}
    numbers["n"] = _number(n, int)
    if numbers["value"] is None:
        raise ValueError(f"record({name!r}) got no number; give a finite value")
    for key, number in numbers.items():
        if number is not None:
            _glue(name if key == "value" else f"{name}_{key}", number)
    defaults = {"unit": "accuracy", "setting": "REF", "dataset": "", "device": _hardware()}
    row = {"name": name} | numbers | defaults | labels
    RECORDS.append(row)
    if folder := _results():
        line = json.dumps(row)
        with (folder / "records.jsonl").open("a", encoding="utf8") as file:
            file.write(f"{line}\n")


def estimate(values: Iterable[float], unit: str = "") -> dict[str, float]:
    """Mean, low and high (95 % interval) and n of one value per model.

    unit: shares and AUC, named so, get an interval that stays between 0 and 1. A single model has
    no interval: low and high are NaN.
    """
    values = np.asarray(list(values), dtype=float)
    n = len(values)
    low = high = np.nan
    if n > 1:
        low, high = interval_of(unit, values)
    return {"mean": float(values.mean()), "low": low, "high": high, "n": n}


def record_mean(
    name: str,
    values: Iterable[float],
    unit: str,
    *,
    change: Callable[[float], float] = float,
    **labels: str,
) -> dict[str, float]:
    """Record the `estimate` of values and give it.

    `change`, such as exp, is applied to the mean and to both ends.
    """
    row = estimate(values, unit)
    for key in ("mean", "low", "high"):
        changed = change(row[key])
        row[key] = float(changed)
    record_summary(name, pd.Series(row), unit=unit, **labels)
    return row


def record_summary(name: str, row: pd.Series, **labels: str) -> None:
    """Record one row of a `stats.summary` or `stats.paired` table with its interval and n."""
    column = "mean" if "mean" in row else "difference"
    record(name, row[column], low=row["low"], high=row["high"], n=row["n"], **labels)


def finding(row: Mapping, above: str, below: str, across: str, bound: float = 0) -> str:
    """Words for an interval (`row`: low, high) that lies above a bound, below it, or across it."""
    if row["low"] > bound:
        return above
    return below if row["high"] < bound else across


def show(
    figure: Figure,
    *,
    name: str,
    caption: str,
    alt: str,
    table: pd.DataFrame | None = None,
    n: int | Sequence[int] | pd.Series | None = None,
    unit: str = "models",
) -> None:
    """Display a figure as SVG with its caption, its alternative text and, under `name`, its number.

    `name` starts with "fig:". `table` holds what is drawn, to be kept. Given `n`, the caption ends
    with the sentence of `bars_note`: means over n models (or another `unit`), 95 % intervals.
    """
    if not name.startswith("fig:"):
        raise ValueError(
            f"figure name is {name!r}; it must start with 'fig:' so that prose can refer to it"
        )
    if n is not None:
        bars = bars_note(n, unit)
        caption += f" {bars}"
    figure = getattr(figure, "figure", figure)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    label = {"name": name, "caption": caption, "alt": alt}
    output = {"image/svg+xml": svg.getvalue(), "text/plain": alt}
    display(output, raw=True, metadata={"sublearn": label})
    if table is not None:
        _save_table(name, table)
    if not _results():
        display(Markdown(caption))


def tabulate(
    table: pd.DataFrame, *, name: str, caption: str, formats: dict[str, str] | None = None
) -> None:
    """Display a table with its caption and keep it as a CSV.

    `formats` maps a column to a format such as "{:.3f}".
    """
    styler = table.style.hide(axis="index")
    styler.format(formats, na_rep="–")
    styler.set_caption(caption)
    html = styler.to_html(table_uuid=_stem(name), table_attributes='class="dataframe"')
    text = table.to_string(index=False)
    output = {"text/html": html, "text/plain": text}
    display(output, raw=True)
    _save_table(name, table)


def record_contrasts(table: pd.DataFrame, chapter: int, **labels: str) -> None:
    """Record the paired differences of the arms that a chapter's claims compare.

    table: one row per arm and model (columns arm, seed, model and accuracy).
    """
    for _, row in contrasts(table, chapter).iterrows():
        record_summary(row["quantity"], row, **labels)


def show_claims(chapter: int, *, name: str, source: str = "") -> None:
    """Display the verdicts on a chapter's claims: by what this kernel recorded, and by reference.

    source: only claims whose source begins so; "not this book": those of others.
    The reference run has 25 models an arm, or 10 pairs, and decides.
    """
    claims = read_claims().query("chapter == @chapter")
    here = pd.DataFrame(RECORDS).assign(chapter=chapter)
    table = scorecard(here, claims)
    reference = scorecard(read_records(RESULTS), claims)
    shown = pd.DataFrame()
    shown["claim"] = table.claim + " (" + table.id + ", " + table.source + ")"
    shown["verdict"] = [*map(_with_correction, table.verdict, table.corrected)]
    shown["reference"] = [*map(_with_correction, reference.verdict, reference.corrected)]
    shown["here"] = [*map(_with_interval, table.value, table.low, table.high, table.n)]
    shown["published"] = table.published
    own = table.source == OWN
    if source == f"not {OWN}":
        shown = shown[~own]
    elif source:
        shown = shown[table.source.str.startswith(source)]
    caption = (
        "Claims, the verdicts by this run and by the reference run (in brackets where Holm's "
        "correction over the chapter changes it), and what this run finds: mean with 95 % interval."
    )
    tabulate(shown, name=name, caption=caption, formats={"published": "{:.3g}"})


def _with_correction(verdict: str, corrected: str) -> str:
    return verdict if verdict == corrected else f"{verdict} (after Holm: {corrected})"


def _with_interval(value: float, low: float, high: float, n: float) -> str:
    if pd.isna(value):
        return "–"
    count = "" if pd.isna(n) else f" (n = {n:.0f})"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]{count}"


def reference_table(chapter: int, name: str) -> pd.DataFrame | None:
    """The table behind a figure or of a table in the reference run; None where there is none.

    A reference run itself sees none: what it replaces may have had other columns. A column `level`
    holds names, also where they look like numbers.
    """
    if os.environ.get("SUBLIMINAL_PROFILE") == "reference":
        return None
    path = RESULTS / f"{chapter:02d}" / f"{_stem(name)}.csv"
    return pd.read_csv(path, dtype={"level": str}) if path.exists() else None


def note(dataset: str) -> None:
    """Say on the page that it was not built on MNIST, where that is so."""
    if dataset == "mnist":
        return
    text = (
        f"This copy of the page was built on {DATASETS[dataset]}, not on MNIST: "
        "its numbers are not the book's. "
        "Faint bands in figures are those of the reference run on MNIST."
    )
    display(Markdown(f":::{{warning}}\n{text}\n:::"))


def _glue(name: str, value: float) -> None:
    """Do what `myst_nb.glue(name, value, display=False)` does, without its import of seconds."""
    metadata = {"scrapbook": {"name": name, "mime_prefix": GLUE}}
    output = {f"{GLUE}text/plain": repr(value)}
    display(output, raw=True, metadata=metadata)


def _number(value: float | None, kind: type = float) -> float | None:
    return None if pd.isna(value) else kind(value)


def _results() -> Path | None:
    folder = os.environ.get("SUBLIMINAL_RESULTS")
    return Path(folder) if folder else None


def _hardware() -> str:
    """Device and number type of what this kernel computed; without torch it was NumPy's float64."""
    if "torch" not in sys.modules:
        return "cpu float64"
    from sublearn.core import machine

    return machine.hardware()


def _stem(name: str) -> str:
    return name.split(":")[-1]


def _save_table(name: str, table: pd.DataFrame) -> None:
    if folder := _results():
        path = folder / f"{_stem(name)}.csv"
        table.to_csv(path, index=False)
