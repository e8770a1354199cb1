"""The scorecard's page: counts, filters, a row with a strip for each claim, and a file of it."""

import base64
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from press.reference import folder_of
from press.runner import CHAPTERS, Project
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
    parts = ['<div class="scorecard">', counts(table), filters(table), heading()]
    chapters = chapter_pages(project)
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


def filters(table: pd.DataFrame) -> str:
    """Boxes that choose what is shown; hidden until the script runs."""
    boxes = []
    for name, title in FILTERS.items():
        options = ['<option value="">all</option>']
        for value in sorted(table[name].unique()):
            options.append(f'<option value="{escape(str(value))}">{escape(str(value))}</option>')
        box = f'<label>{title} <select name="{name}">{"".join(options)}</select></label>'
        boxes.append(box)
    return f'<form hidden>{" ".join(boxes)} <output aria-live="polite"></output></form>'


def heading() -> str:
    """Beginning of the table."""
    columns = ("Claim", "Source", "Ch.", "Published and ours", "n", "Verdict", "After Holm", "Here")
    cells = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return (
        '<div class="scorecard-table" tabindex="0" role="region" aria-label="Claims and verdicts">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>"
    )


def row(claim, chapters: dict[int, str]) -> str:
    """A row of the table; chapters: addresses of their pages."""
    data = [f'data-{name}="{escape(str(getattr(claim, name)))}"' for name in FILTERS]
    note = "" if pd.isna(claim.note) else f' <span class="note">{escape(claim.note)}</span>'
    kind = (
        f'<span class="kind">{escape(claim.id)}, {claim.kind}, {escape(str(claim.setting))}</span>'
    )
    link = str(claim.chapter)
    if claim.chapter in chapters:
        link = f'<a href="{chapters[claim.chapter]}">{link}</a>'
    verdict = escape(claim.verdict)
    if claim.verdict == "undecided" and claim.needed > claim.n:
        verdict += f" (n = {claim.needed:,.0f} would decide)"
    cells = [
        f"{escape(claim.claim)} {kind}{note}",
        escape(claim.source),
        link,
        strip(claim),
        "" if pd.isna(claim.n) else f"{claim.n:.0f}",
        f'<span class="verdict" data-word="{claim.verdict}">{verdict}</span>',
        escape(claim.corrected),
        escape(claim.local_verdict),
    ]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr id="claim-{claim.id}" {" ".join(data)}>{body}</tr>'


def chapter_pages(project: Project) -> dict[int, str]:
    """Addresses of the chapters' pages, as seen from the scorecard's, by number."""
    pages = {}
    for path in (project.root / "notebooks").glob(CHAPTERS):
        pages[int(path.name[:2])] = f"../notebooks/{path.stem}.html"
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
    said = f"ours {claim.value:.3g} [{claim.low:.3g}, {claim.high:.3g}]"
    if not pd.isna(claim.published):
        said += f", published {claim.published:.3g}"
    picture = (
        f'<svg role="img" aria-label="{said}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )
    return f'{picture}<span class="kind">{said}</span>'


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
