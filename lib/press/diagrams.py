"""Sketches that open chapters: boxes, arrows and words from `book/diagrams.yml`, drawn as SVG."""

from html import escape

import numpy as np

WIDTH = 230  # units of a panel
TIP = 7  # length of an arrow's head


def sketch(name: str, sketches: dict) -> str:
    """HTML of the sketch of a name; `sketches` as they stand in the file.

    Raises ValueError for a name that is not there.
    """
    if name not in sketches:
        names = ", ".join(sketches)
        raise ValueError(f"no sketch is called {name!r}; book/diagrams.yml has {names}")
    described = sketches[name]
    panels = "".join(draw_panel(panel) for panel in described["panels"])
    alt = escape(described["alt"], quote=True)
    drawing = f'<div class="panels" role="img" aria-label="{alt}">{panels}</div>'
    caption = f"<figcaption><p>{described['caption']}</p></figcaption>"
    return f'<figure class="schematic sketch">{drawing}{caption}</figure>'


def draw_panel(panel: dict) -> str:
    """A panel: its title, and what is drawn in the order lines, boxes, arrows, dots, words."""
    marks = []
    for kind, draw in KINDS.items():
        for item in panel.get(kind, []):
            look = item.get("look", "")
            dashed = " dashed" if item.get("dashed") else ""
            marks.append(f'<g class="{look}{dashed}">{draw(item)}</g>')
    size = f'viewBox="0 0 {WIDTH} {panel["height"]}"'
    title = escape(panel["title"])
    return f'<div><p>{title}</p><svg {size} aria-hidden="true">{"".join(marks)}</svg></div>'


def draw_line(line: dict) -> str:
    """A line between two places."""
    (x1, y1), (x2, y2) = line["from"], line["to"]
    return f'<path d="M{x1} {y1}L{x2} {y2}" class="line"/>'


def draw_box(box: dict) -> str:
    """A box with rounded corners and a word in its middle."""
    (x, y), (width, height) = box["at"], box["size"]
    corner = min(4, width / 8)
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{corner:g}"/>'
    middle = f'x="{x + width / 2:g}" y="{y + height / 2 + 4:g}"'
    return f"{shape}<text {middle}>{escape(box['text'])}</text>"


def draw_arrow(arrow: dict) -> str:
    """An arrow from one place to another: a line and a head."""
    begin, end = np.array(arrow["from"], float), np.array(arrow["to"], float)
    along = (end - begin) / np.linalg.norm(end - begin)
    across = np.array([-along[1], along[0]])
    back = end - TIP * along
    corners = [end, back + TIP / 2 * across, back - TIP / 2 * across]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    line = {"from": arrow["from"], "to": back.round(1).tolist()}
    return f'{draw_line(line)}<polygon points="{points}"/>'


def draw_dot(dot: dict) -> str:
    """A point."""
    x, y = dot["at"]
    return f'<circle cx="{x}" cy="{y}" r="4"/>'


def draw_words(words: dict) -> str:
    """A line of text, in the middle at its place; `begins`: beginning there."""
    x, y = words["at"]
    look = "begins" if words.get("begins") else ""
    return f'<text x="{x}" y="{y}" class="{look}">{escape(words["text"])}</text>'


KINDS = {
    "lines": draw_line,
    "boxes": draw_box,
    "arrows": draw_arrow,
    "dots": draw_dot,
    "texts": draw_words,
}
