"""A talk of each executed chapter: its question, figures and takeaways, as slides of reveal.js.

The slides are made from the executed copies, so they show what the pages show. They lie beside the
folder `reveal`, which `make slides` fetches, and need no network.
"""

import argparse
import base64
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt

from press.exercises import in_notebook
from press.runner import CHAPTERS, PressError, Project
from sublearn.core import store

GLUE = re.compile(r"\{glue:text\}`([\w.]+)(?::([^`]*))?`")
MENTION = re.compile(r"\s*\((?:[^()]*; )?\{numref\}`[^`]*`\)|\{\w+(?::\w+)?\}`[^`]*`")
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="reveal/theme/white.css">
<style>
.reveal {{ font-size: 30px; }}
.reveal h2 {{ font-size: 1.3em; text-transform: none; }}
.reveal h1 {{ font-size: 1.9em; text-transform: none; }}
.reveal li, .reveal p {{ line-height: 1.35; text-align: left; }}
.reveal img.figure {{
  display: block; margin: 0 auto; max-width: 100%; height: {height}px; object-fit: contain;
}}
.reveal .caption {{ font-size: 0.75em; }}
</style></head><body><div class="reveal"><div class="slides">
{slides}
</div></div><script src="reveal/reveal.js"></script>
<script>
Reveal.initialize({{ hash: true, width: {width}, height: {full}, margin: 0.06 }});
</script></body></html>
"""
WIDTH, FULL, HEIGHT = 1200, 720, 460  # pixels: of a slide, and how high a figure may be
ROOM = 620  # letters on a slide of points


def numbers(project: Project, name: str) -> dict[str, float]:
    """What a chapter recorded, by the names that its prose uses."""
    table = pd.read_csv(project.results(name)).set_index("name")
    found = {}
    for label, row in table.iterrows():
        found[label] = row["value"]
        for part in ("low", "high", "n"):
            found[f"{label}_{part}"] = row[part]
    return found


def prose(text: str, values: dict[str, float]) -> str:
    """Markdown as HTML, with the numbers filled in and without what only a page can show."""

    def fill(match: re.Match) -> str:
        return format(values[match[1]], match[2] or "")

    text = GLUE.sub(fill, text)
    text = MENTION.sub("", in_notebook(text))
    return MarkdownIt().render(text)


def caption_of(caption: str) -> str:
    """First sentence of a caption: what is to be seen."""
    return re.split(r"(?<=[.!?])\s", caption)[0]


def figure_of(cell: dict) -> tuple[str, str, str] | None:
    """SVG, caption and description of the figure that a cell shows."""
    page = cell["metadata"].get("mystnb", {})
    for output in cell.get("outputs", []):
        picture = output.get("data", {}).get("image/svg+xml")
        if picture and "figure" in page:
            return "".join(picture), page["figure"]["caption"], page["image"]["alt"]
    return None


def points(text: str) -> Iterator[str]:
    """A list's points in Markdown, as many together as a slide has room for."""
    items = re.split(r"^\* ", text.strip(), flags=re.MULTILINE)[1:]
    shown = ""
    for item in items:
        item, *_ = item.split("\n\n")  # what follows the list is no point
        if shown and len(shown) + len(item) > ROOM:
            yield shown
            shown = ""
        shown += f"* {item}\n"
    if shown:
        yield shown


def slide(title: str, inside: str) -> str:
    """A slide."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>"


def chapter(project: Project, name: str) -> str:
    """Page of slides of one chapter."""
    cells = store.read_json(project.executed(name))["cells"]
    values = numbers(project, name)
    first = "".join(cells[0]["source"])
    title = first.splitlines()[0].lstrip("# ")
    slides = [f"<section><h1>{escape(title)}</h1></section>"]
    lines = re.search(r"\*\*Why care\W*\*\*(.*?)\n\n", first + "\n\n", re.DOTALL)
    if lines:
        slides.append(slide("Why care?", prose(lines[1], values)))
    heading = title
    for cell in cells:
        text = "".join(cell["source"])
        found = figure_of(cell) if cell["cell_type"] == "code" else None
        if found:
            svg, caption, alt = found
            data = base64.b64encode(svg.encode()).decode()
            image = (
                f'<img class="figure" alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'
            )
            words = f'<p class="caption">{prose(caption_of(caption), values)}</p>'
            slides.append(slide(heading, image + words))
        elif cell["cell_type"] == "markdown":
            headings = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
            heading = headings[-1] if headings else heading
            end = re.search(r"^## Takeaways\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
            for part in points(end[1]) if end else ():
                slides.append(slide("Takeaways", prose(part, values)))
    return PAGE.format(
        title=escape(title), slides="\n".join(slides), width=WIDTH, full=FULL, height=HEIGHT
    )


def write(project: Project, only: list[str]) -> list[Path]:
    """Write slides of the chapters that have run, or of those that `only` begins; their paths."""
    written = []
    for source in sorted((project.root / "notebooks").glob(CHAPTERS)):
        name = source.stem
        chosen = not only or name.startswith(tuple(only))
        if chosen and project.executed(name).exists() and project.results(name).exists():
            path = project.root / "_build/slides" / f"{name}.html"
            store.write_atomic(path, chapter(project, name))
            written.append(path)
    if not written:
        raise PressError(f"no chapter of profile {project.profile!r} has run: `make run` first")
    return written


def main() -> int:
    """Write slides of executed chapters into `_build/slides`."""
    parser = argparse.ArgumentParser("python -m press.slides", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="these chapters only; 02 is enough")
    parser.add_argument("--profile", default="laptop")
    arguments = parser.parse_args()
    try:
        for path in write(Project(profile=arguments.profile), arguments.names):
            print(path.relative_to(Project().root))
    except PressError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
