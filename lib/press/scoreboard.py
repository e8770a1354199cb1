"""The scorecard's page: counts, filters, a row with a strip for each claim, and a file of it."""

import base64
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from docutils.nodes import make_id

from press.reference import folder_of
from press.runner import CHAPTERS, Project
from sublearn.core import store
from sublearn.report import scorecard

STRIP = 150, 26  # width and height of a strip, in pixels
CONTRADICTIONS = scorecard.REFERENCE.parent / "contradictions.csv"  # no input of a notebook
HOLDS = ("reproduced", "same direction")
HEADING = re.compile(r"^##? ", re.MULTILINE)  # of a chapter or one of its sections
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


class Place(NamedTuple):
    """Where a page shows a claim: a figure's name and a cell's id; empty where it does not."""

    figure: str = ""
    cell: str = ""


class Contents(NamedTuple):
    """What an executed copy holds, by the number of the cell."""

    ids: list[str]
    sections: list[int]  # how many headings stand before each cell's end
    recorded: dict[str, int]  # quantity -> the cell that records it
    figures: dict[int, str]  # cell -> name of its figure
    arms: dict[str, str]  # arm -> the first figure whose table has it


def tables(project: Project) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scorecard by the reference results, and by those of the project's profile."""
    kept = folder_of(project)
    reference = scorecard.read_records(kept)
    made = project.results("x").parent
    local = scorecard.read_records(made)
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
    found = places(project, table)
    parts = ['<div class="scorecard">', counts(table), filters(table, chapters), heading()]
    for claim in table.itertuples():
        place = found.get(claim.id, Place())
        line = row(claim, chapters, place)
        parts.append(line)
    parts += ["</tbody></table></div>", download(table), "</div>", f"<script>{SCRIPT}</script>"]
    return "\n".join(parts)


@cache
def finished(project: Project) -> pd.DataFrame:
    """The scorecard of both kinds of runs, by claim, made once a build."""
    table = joined(project)
    return table.set_index("id", drop=False)


def forest(project: Project, names: list[str], label: str) -> str:
    """HTML of the claims of these ids: verdicts in words and color, published and ours as strips.

    Claims that the scorecard does not know are left out.
    """
    table = finished(project)
    parts = [heading(label)]
    for claim in table.loc[table.index.isin(names)].itertuples():
        source = f"{claim.id}, {claim.source}"
        claimed = f'{escape(claim.claim)}<span class="small">{escape(source)}</span>'
        cells = "".join(f"<td>{cell}</td>" for cell in (claimed, verdicts(claim), strip(claim)))
        parts.append(f"<tr>{cells}</tr>")
    parts.append("</tbody></table></div>")
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
            quoted = escape(str(value))
            option = f'<option value="{quoted}">{escape(shown)}</option>'
            options.append(option)
        box = f'<label>{title} <select name="{name}">{"".join(options)}</select></label>'
        boxes.append(box)
    return f'<form hidden>{" ".join(boxes)} <output aria-live="polite"></output></form>'


def heading(label: str = "Claims and verdicts") -> str:
    """Beginning of the table, with its name for screen readers."""
    columns = ("Claim", "Verdict", "Published and ours")
    cells = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return (
        f'<div class="scorecard-table" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>"
    )


def row(claim, chapters: dict[int, Chapter], place: Place) -> str:
    """A row of the table."""
    data = []
    for name in FILTERS:
        value = str(getattr(claim, name))
        quoted = escape(value)
        data.append(f'data-{name}="{quoted}"')
    chapter = chapter_of(claim.chapter, chapters)
    claimed = said(claim, chapter, place)
    cells = [claimed, verdicts(claim), strip(claim)]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr id="claim-{claim.id}" {" ".join(data)}>{body}</tr>'


def said(claim, chapter: Chapter, place: Place) -> str:
    """The claim, who made it, and where it is tested: chapter, figure and cell."""
    title = escape(chapter.title)
    where = [title]
    if chapter.address:
        where = [f'<a href="{chapter.address}">{title}</a>']
        if place.figure:
            anchor = make_id(place.figure)
            where.append(f'<a href="{chapter.address}#{anchor}">figure</a>')
        if place.cell:
            anchor = cell_anchor(place.cell)
            where.append(f'<a href="{chapter.address}#{anchor}">cell</a>')
    source = escape(claim.source)
    found = ", ".join(where)
    kind = f"{escape(claim.id)}: {claim.kind}"
    if not pd.isna(claim.setting):
        kind += f", {escape(claim.setting)}"
    small = [f"{source}. {found}.", kind]
    if not pd.isna(claim.note):
        note = escape(claim.note)
        small.append(note)
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
        notebook = store.read_json(path)
        first = "".join(notebook["cells"][0]["source"])
        title = first.splitlines()[0].lstrip("# ")
        number = int(path.name[:2])
        pages[number] = Chapter(title, f"../notebooks/{path.stem}.html")
    return pages


def cell_anchor(cell: str) -> str:
    """Name of the place of a code cell on its page."""
    return make_id(f"cell-{cell}")


def places(project: Project, claims: pd.DataFrame) -> dict[str, Place]:
    """Figure and cell of each claim, by its id, as the chapters' executed copies hold them."""
    found = {}
    for path in sorted((project.root / "notebooks").glob(CHAPTERS)):
        copy = store.read_json(project.executed(path.stem))
        if copy is None:
            continue
        contents = read_contents(copy["cells"], project.results(path.stem).with_suffix(""))
        for claim in claims[claims.chapter == int(path.name[:2])].itertuples():
            found[claim.id] = place_of(claim, contents)
    return found


def read_contents(cells: list[dict], tables: Path) -> Contents:
    """What the cells of an executed copy record and show; `tables` holds its figures' tables."""
    contents = Contents([], [], {}, {}, {})
    headings = 0
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown" and HEADING.search("".join(cell["source"])):
            headings += 1
        contents.ids.append(cell.get("id", ""))
        contents.sections.append(headings)
        for output in cell.get("outputs", []):
            metadata = output.get("metadata", {})
            if "scrapbook" in metadata:
                contents.recorded.setdefault(metadata["scrapbook"]["name"], number)
            if "sublearn" in metadata:
                name = metadata["sublearn"]["name"]
                contents.figures[number] = name
                for arm in arms_of(tables / f"{name.split(':')[-1]}.csv"):
                    contents.arms.setdefault(arm, name)
    return contents


def arms_of(path: Path) -> set[str]:
    """Arms in the table of a figure: its column `arm`, or "factor: level"; none without a file."""
    if not path.exists():
        return set()
    table = pd.read_csv(path, dtype=str)
    if "arm" in table:
        return set(table.arm.dropna())
    if "level" in table and "factor" in table:
        return set(table.factor + ": " + table.level)
    return set()


def place_of(claim, contents: Contents) -> Place:
    """Where a claim is shown: the figure whose table has its arm, else the nearest in the section.

    The section is that of the cell that records the quantity; of two as near the later comes first.
    """
    first, *_ = str(claim.quantity).split(";")
    number = contents.recorded.get(first)
    cell = "" if number is None else contents.ids[number]
    if not pd.isna(claim.arm):
        return Place(contents.arms.get(claim.arm, ""), cell)
    near = []
    for at, name in contents.figures.items():
        if number is not None and contents.sections[at] == contents.sections[number]:
            near.append((abs(at - number), at < number, name))
    return Place(min(near)[-1] if near else "", cell)


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
    text = f"ours {claim.value:.3g} [{claim.low:.3g},\u00a0{claim.high:.3g}]"
    if not pd.isna(claim.published):
        text += f", published {claim.published:.3g}"
    if not pd.isna(claim.n):
        text += f" (n\u00a0=\u00a0{claim.n:.0f})"
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


def contradictions(project: Project) -> str:
    """HTML of the table of what the sources say against each other, settled by the verdicts."""
    reference, _ = tables(project)
    verdict_of = dict(zip(reference.id, reference.verdict))
    weight_of = dict(zip(reference.id, map(weight, reference.kind, reference.verdict)))
    columns = ("Question", "One says", "Another says", "By the reference runs")
    cells = "".join(f'<th scope="col">{column}</th>' for column in columns)
    parts = [
        '<div class="scorecard-table" tabindex="0" role="region" aria-label="Contradictions">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>"
    ]
    for case in pd.read_csv(CONTRADICTIONS).fillna("").itertuples():
        one, other = case.for_one.split(";"), case.for_other.split(";")
        outcome = settled([*map(weight_of.get, one)], [*map(weight_of.get, other)])
        cells = [
            escape(case.question),
            side_said(case.one, one, verdict_of),
            side_said(case.other, other, verdict_of),
            f'<strong>{outcome}</strong><span class="small">{escape(case.why)}</span>',
        ]
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        parts.append(f"<tr>{body}</tr>")
    parts.append("</tbody></table></div>")
    return "\n".join(parts)


def weight(kind: str, verdict: str) -> str:
    """The verdict as it counts for a side: a value of the same direction is another value."""
    differs = kind == "value" and verdict == "same direction"
    return "not reproduced" if differs else verdict


def settled(one: list[str], other: list[str]) -> str:
    """Which side the verdicts on the claims of two sides support.

    What speaks for a side: a claim of its own that holds, or one of the other's that is
    contradicted. Without either, it is open as long as a claim is undecided or not run.
    """
    speaks_for_one = not {*HOLDS}.isdisjoint(one) or "contradicted" in other
    speaks_for_other = not {*HOLDS}.isdisjoint(other) or "contradicted" in one
    if speaks_for_one and speaks_for_other:
        return "Both, each in its own setting."
    if speaks_for_one:
        return "The first."
    if speaks_for_other:
        return "The second."
    if {"undecided", "not run"}.isdisjoint([*one, *other]):
        return "Neither."
    return "Open: not decided, or not run yet."


def side_said(said: str, names: list[str], verdict_of: dict[str, str]) -> str:
    """What one side says, with its claims, which lead to their rows, and their verdicts."""
    lines = []
    for name in filter(None, names):
        link = f'<a href="#claim-{name}">{name}</a>'
        lines.append(f'<span class="small">{link}: {verdict_of[name]}</span>')
    return escape(said) + "".join(lines)


def download(table: pd.DataFrame) -> str:
    """Link that holds the whole table as a CSV file; it works from a file too."""
    text = table.to_csv(index=False, float_format="%.5g")
    content = base64.b64encode(text.encode()).decode()
    return (
        f'<p><a download="scorecard.csv" href="data:text/csv;base64,{content}">'
        "Download the scorecard as CSV</a></p>"
    )
