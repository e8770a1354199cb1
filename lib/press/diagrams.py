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
    drawn = map(draw_panel, described["panels"])
    panels = "".join(drawn)
    alt = escape(described["alt"])
    caption = described["caption"]
    drawing = f'<div class="panels" role="img" aria-label="{alt}">{panels}</div>'
    below = f"<figcaption><p>{caption}</p></figcaption>"
    return f'<figure class="schematic sketch">{drawing}{below}</figure>'


def draw_panel(panel: dict) -> str:
    """A panel: its title, and what is drawn in the order lines, boxes, arrows, dots, words."""
    marks = []
    for kind, draw in KINDS.items():
        for item in panel.get(kind, []):
            look = looks(item, "look", "dashed")
            mark = draw(item)
            marks.append(f'<g class="{look}">{mark}</g>')
    title = escape(panel["title"])
    height = panel["height"]
    drawn = "".join(marks)
    picture = f'<svg viewBox="0 0 {WIDTH} {height}" aria-hidden="true">{drawn}</svg>'
    return f"<div><p>{title}</p>{picture}</div>"


def looks(item: dict, *names: str) -> str:
    """Classes of a mark: the word under a name, or the name itself where it is only true."""
    classes = []
    for name in names:
        value = item.get(name)
        if value is True:
            value = name
        if value:
            classes.append(value)
    return " ".join(classes)


def draw_line(line: dict) -> str:
    """A line between two places."""
    x1, y1 = line["from"]
    x2, y2 = line["to"]
    return f'<path d="M{x1} {y1}L{x2} {y2}" class="line"/>'


def draw_box(box: dict) -> str:
    """A box with rounded corners and a word in its middle."""
    x, y = box["at"]
    width, height = box["size"]
    corner = min(4, width / 8)
    size = f'width="{width}" height="{height}"'
    shape = f'<rect x="{x}" y="{y}" {size} rx="{corner:g}"/>'
    middle = x + width / 2
    base = y + height / 2 + 4
    word = escape(box["text"])
    return f'{shape}<text x="{middle:g}" y="{base:g}">{word}</text>'


def draw_arrow(arrow: dict) -> str:
    """An arrow from one place to another: a line and a head."""
    begin = np.array(arrow["from"])
    end = np.array(arrow["to"])
    way = end - begin
    along = TIP * way / np.linalg.norm(way)
    x, y = along
    half = np.array([-y, x]) / 2
    back = end - along
    corners = [end, back + half, back - half]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    shaft = {"from": begin, "to": back.round(1)}
    line = draw_line(shaft)
    return f'{line}<polygon points="{points}"/>'


def draw_dot(dot: dict) -> str:
    """A point."""
    x, y = dot["at"]
    return f'<circle cx="{x}" cy="{y}" r="4"/>'


def draw_words(words: dict) -> str:
    """A line of text, in the middle at its place; `begins`: beginning there."""
    x, y = words["at"]
    look = looks(words, "begins")
    text = escape(words["text"])
    return f'<text x="{x}" y="{y}" class="{look}">{text}</text>'


KINDS = {
    "lines": draw_line,
    "boxes": draw_box,
    "arrows": draw_arrow,
    "dots": draw_dot,
    "texts": draw_words,
}
