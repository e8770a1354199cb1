"""The scorecard's page: counts, filters, a row with a strip for each claim, and a file of it."""

import base64
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from press.reference import folder_of
from press.runner import CHAPTERS, Project
from sublearn.core import store
from sublearn.report import scorecard

STRIP = 150, 26  # width and height of a strip, in pixels
FILTERS = {"source": "Source", "chapter": "Chapter", "verdict": "Verdict"}
SCRIPT = """
(() => {
  const board = document.querySelector(".scorecard");
  const rows = [...board.querySelectorAll("tbody tr")];
  const boxes = [...board.querySelectorAll("select")];
  const shown = board.querySelector("output");
  const apply = () => {
    let count = 0;
    for (const row of rows) {
      row.hidden = boxes.some((box) => box.value && row.dataset[box.name] !== box.value);
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length} claims`;
  };
  for (const box of boxes) box.addEventListener("change", apply);
  board.querySelector("form").hidden = false;
  apply();
})();
"""


class Chapter(NamedTuple):
    """A chapter as the scorecard names it; without a page its address is empty."""

    title: str
    address: str = ""


def tables(project: Project) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scorecard by the reference results, and by those of the project's profile."""
    reference = scorecard.read_records(folder_of(project))
    local = scorecard.read_records(project.results("x").parent)
    return scorecard.scorecard(reference), scorecard.scorecard(local)


def write_csv(project: Project) -> Path:
    """Write `_build/results/PROFILE/scorecard.csv`: claims, reference and local verdicts."""
    path = project.results("scorecard")
    path.parent.mkdir(parents=True, exist_ok=True)
    joined(project).to_csv(path, index=False)
    return path


def joined(project: Project) -> pd.DataFrame:
    """The reference scorecard with the columns of the local one as `local_...`."""
    reference, local = tables(project)
    added = ["value", "low", "high", "n", "verdict", "p", "corrected", "needed"]
    return reference.join(local[added].add_prefix("local_"))


def page(project: Project) -> str:
    """HTML of the scorecard."""
    table = joined(project)
    chapters = chapter_pages(project)
    parts = ['<div class="scorecard">', counts(table), filters(table, chapters), heading()]
    parts += [row(claim, chapters) for claim in table.itertuples()]
    parts += ["</tbody></table></div>", download(table), "</div>", f"<script>{SCRIPT}</script>"]
    return "\n".join(parts)


def counts(table: pd.DataFrame) -> str:
    """How many claims of others, and how many predictions of this book, got which verdict."""
    own = table.source == scorecard.OWN
    lines = []
    for title, part in (
        ("Claims of others", table[~own]),
        ("Predictions of this book", table[own]),
    ):
        found = part.verdict.value_counts()
        words = [f"{found[word]} {word}" for word in scorecard.VERDICTS if word in found]
        lines.append(f"<p><strong>{title} ({len(part)}), by the reference runs:</strong> ")
        lines.append(f"{', '.join(words)}.</p>")
    return "".join(lines)


def filters(table: pd.DataFrame, chapters: dict[int, Chapter]) -> str:
    """Boxes that choose what is shown; hidden until the script runs."""
    boxes = []
    for name, title in FILTERS.items():
        options = ['<option value="">all</option>']
        for value in sorted(table[name].unique()):
            shown = chapter_of(value, chapters).title if name == "chapter" else value
            options.append(f'<option value="{escape(str(value))}">{escape(shown)}</option>')
        box = f'<label>{title} <select name="{name}">{"".join(options)}</select></label>'
        boxes.append(box)
    return f'<form hidden>{" ".join(boxes)} <output aria-live="polite"></output></form>'


def heading() -> str:
    """Beginning of the table."""
    columns = ("Claim", "Verdict", "Published and ours")
    cells = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return (
        '<div class="scorecard-table" tabindex="0" role="region" aria-label="Claims and verdicts">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>"
    )


def row(claim, chapters: dict[int, Chapter]) -> str:
    """A row of the table."""
    data = [f'data-{name}="{escape(str(getattr(claim, name)))}"' for name in FILTERS]
    cells = [said(claim, chapter_of(claim.chapter, chapters)), verdicts(claim), strip(claim)]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr id="claim-{claim.id}" {" ".join(data)}>{body}</tr>'


def said(claim, chapter: Chapter) -> str:
    """The claim, who made it, and where it is tested."""
    place = escape(chapter.title)
    if chapter.address:
        place = f'<a href="{chapter.address}">{place}</a>'
    small = [f"{escape(claim.source)}. {place}.", f"{escape(claim.id)}: {claim.kind}"]
    if not pd.isna(claim.setting):
        small[1] += f", {escape(claim.setting)}"
    if not pd.isna(claim.note):
        small.append(escape(claim.note))
    lines = "".join(f'<span class="small">{line}</span>' for line in small)
    return f"{escape(claim.claim)}{lines}"


def verdicts(claim) -> str:
    """The verdict of the reference run, after Holm's correction, and here."""
    verdict = f'<span class="verdict" data-word="{claim.verdict}">{claim.verdict}</span>'
    small = []
    if claim.verdict == "undecided" and claim.needed > claim.n:
        small.append(f"n = {claim.needed:,.0f} would decide")
    if claim.corrected != claim.verdict:
        small.append(f"after Holm: {claim.corrected}")
    small.append(f"here: {claim.local_verdict}")
    lines = "".join(f'<span class="small">{line}</span>' for line in small)
    return f"{verdict}{lines}"


def chapter_of(number: int, chapters: dict[int, Chapter]) -> Chapter:
    """The chapter of a number, or words for one that is not written yet."""
    return chapters.get(number, Chapter(f"a chapter that is not written yet ({number})"))


def chapter_pages(project: Project) -> dict[int, Chapter]:
    """Titles of the chapters and addresses of their pages, as seen from the scorecard's."""
    pages = {}
    for path in sorted((project.root / "notebooks").glob(CHAPTERS)):
        title = "".join(store.read_json(path)["cells"][0]["source"]).splitlines()[0]
        pages[int(path.name[:2])] = Chapter(title.lstrip("# "), f"../notebooks/{path.stem}.html")
    return pages


def strip(claim) -> str:
    """Published value and ours with their intervals on one axis, with the bound as a line."""
    ours = [claim.value, claim.low, claim.high]
    theirs = [claim.published, claim.published_low, claim.published_high]
    numbers = np.array([*ours, *theirs, claim.bound], dtype=float)
    known = numbers[np.isfinite(numbers)]
    if not np.isfinite(claim.value):
        return "" if pd.isna(claim.published) else f"published {claim.published:.3g}"
    width, height = STRIP
    span = np.ptp(known) or 1.0
    places = 6 + (width - 12) * (numbers - known.min()) / span
    parts = []
    if np.isfinite(places[6]):
        parts.append(
            f'<line class="bound" x1="{places[6]:.1f}" x2="{places[6]:.1f}" y2="{height}"/>'
        )
    for name, middle, points in (("theirs", 8, places[3:6]), ("ours", 18, places[:3])):
        parts.append(_bar(name, middle, points))
    text = f"ours {claim.value:.3g} [{claim.low:.3g}, {claim.high:.3g}]"
    if not pd.isna(claim.published):
        text += f", published {claim.published:.3g}"
    if not pd.isna(claim.n):
        text += f" (n = {claim.n:.0f})"
    picture = (
        f'<svg role="img" aria-label="{text}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )
    return f'{picture}<span class="small">{text}</span>'


def _bar(name: str, middle: int, points: np.ndarray) -> str:
    """A point with its interval, where there are any."""
    value, low, high = points
    parts = []
    if np.isfinite(low) and np.isfinite(high):
        parts.append(
            f'<line class="{name}" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        )
    if np.isfinite(value):
        parts.append(f'<circle class="{name}" cx="{value:.1f}" cy="{middle}" r="3.5"/>')
    return "".join(parts)


def download(table: pd.DataFrame) -> str:
    """Link that holds the whole table as a CSV file; it works from a file too."""
    text = table.to_csv(index=False, float_format="%.5g")
    content = base64.b64encode(text.encode()).decode()
    return (
        f'<p><a download="scorecard.csv" href="data:text/csv;base64,{content}">'
        "Download the scorecard as CSV</a></p>"
    )
