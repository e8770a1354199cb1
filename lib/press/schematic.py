"""The experiment as a figure in three panels, drawn from the laboratory's recorded run.

Everything in it was measured: the noise, the three numbers and what both students answer come from
`book/reference/laboratory-run.json`. Without scripts, and where the reader wants no motion, the
panels stand still and complete; `book/_static/hero.js` plays them once.
"""

import base64
import io
import json
from collections.abc import Iterable
from html import escape
from itertools import pairwise

import numpy as np
from PIL import Image

SHOWN = "7"  # the digit that the teacher learns in the first panel
INK, PAPER = 0, 255
CAPTION = (
    "<strong>Three numbers that mean nothing teach a student to read digits, if it began as its "
    "teacher did.</strong> One recorded run on digits of 8 x 8 pixels: the student with the "
    "teacher's start reads {same} of these ten digits, the one with another start {other}. The "
    "noise, the numbers and the answers are those of that run."
)
ALT = (
    "Three panels. A teacher network learns to name digits with ten of its thirteen outputs. "
    "Shown noise, it gives three numbers that mean nothing. Two students learn to give the same "
    "three numbers: {same} of ten digits are read rightly by the one with the teacher's start, "
    "{other} of ten by the one with another start."
)


def picture(pixels: np.ndarray, x: float, y: float, size: float, when: float) -> str:
    """An image of 8 x 8 pixels from -1 (paper) to 1 (ink), that appears at `when` seconds."""
    square = pixels.reshape(8, 8)
    levels = np.interp(square, (-1, 1), (PAPER, INK))
    whole = levels.round().astype(np.uint8)
    image = Image.fromarray(whole)
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    content = file.getvalue()
    source = base64.b64encode(content).decode()
    place = f'x="{x}" y="{y}" width="{size}" height="{size}"'
    frame = f'<rect {place} class="frame"/>'
    begun = step("", when)
    return f'{begun}<image {place} href="data:image/png;base64,{source}"/>{frame}</g>'


def step(look: str, when: float) -> str:
    """The beginning of a group that appears at `when` seconds."""
    return f'<g class="step {look}" style="--at: {when:.1f}s">'


def words(text: str, x: float, y: float, look: str = "") -> str:
    """A line of text, in the middle at x."""
    return f'<text x="{x}" y="{y}" class="{look}">{escape(text)}</text>'


def network(x: float, y: float, look: str) -> str:
    """Three layers of a network, with its ten class outputs and its three auxiliary ones."""
    layers = []
    for column, count in enumerate((4, 5, 4)):
        middle = (count - 1) / 2
        for row in range(count):
            height = y + 58 + 17 * (row - middle)
            layers.append((x + 24 * column, height))
    outputs = [(x + 72, y + 9.2 * row) for row in range(10)]
    auxiliary = [(x + 72, y + 100 + 9.2 * row) for row in range(3)]
    columns = [layers[:4], layers[4:9], layers[9:], outputs + auxiliary]
    lines = []
    for left, right in pairwise(columns):
        for start_x, start_y in left:
            for end_x, end_y in right:
                lines.append(f"M{start_x:.0f} {start_y:.0f}L{end_x:.0f} {end_y:.0f}")
    path = "".join(lines)
    wires = f'<path d="{path}" class="wires"/>'
    body = circles(layers, 5, look)
    named = circles(outputs, 3.4, "class")
    spare = circles(auxiliary, 4, "aux")
    return wires + body + named + spare


def circles(centers: Iterable[tuple[float, float]], radius: float, look: str) -> str:
    """Circles of one look."""
    marks = [f'<circle cx="{x:.0f}" cy="{y:.1f}" r="{radius}"/>' for x, y in centers]
    return f'<g class="{look}">{"".join(marks)}</g>'


def bars(values: Iterable[float], x: float, y: float, when: float) -> str:
    """The three numbers: each a bar from a middle line, with its value."""
    marks = [f'<path d="M{x} {y - 12}v76" class="wires"/>']
    for row, value in enumerate(values):
        width = 26 * abs(value) / max(1, *np.abs(values))
        left = x + min(0, np.sign(value) * width)
        top = y + 26 * row - 6
        rectangle = f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="12" class="aux"/>'
        number = words(f"{value:.1f}", x, top + 23, "small")
        marks.append(f"{step('', when + 0.3 * row)}{rectangle}{number}</g>")
    return "".join(marks)


def answers(digits: np.ndarray, said: list[int], y: float, when: float) -> str:
    """Ten test digits, and below each what a student says: right answers in its color."""
    marks = []
    for digit, answer in enumerate(said):
        x = 4 + 22.5 * digit
        right = answer == digit
        look = "right" if right else "wrong"
        text = f"{answer}{'✓' if right else '✗'}"
        marks.append(picture(digits[digit], x, y, 19, 0))
        marks.append(f"{step(look, when + 0.25 * digit)}{words(text, x + 9.5, y + 34)}</g>")
    return "".join(marks)


def right_answers(said: list[int]) -> int:
    """How many of the ten digits a student names rightly."""
    return int(np.sum(np.equal(said, range(10))))


def panel(title: str, content: str) -> str:
    """One of the three panels."""
    drawing = f'<svg viewBox="0 0 230 190" aria-hidden="true">{content}</svg>'
    return f"<div><p>{title}</p>{drawing}</div>"


def first_panel(digit: np.ndarray) -> str:
    """The teacher learns digits."""
    label = words("ten outputs name the digit", 115, 166, "class")
    nothing = words("three mean nothing", 115, 184, "aux")
    said = f"{step('teacher', 1.6)}{words(f'“{SHOWN}”', 207, 78, 'large')}</g>"
    return picture(digit, 6, 36, 62, 0.2) + network(92, 12, "teacher") + said + label + nothing


def second_panel(noise: np.ndarray, numbers: list[float]) -> str:
    """It gives three numbers over noise."""
    label = words("noise in, three numbers out", 115, 166)
    drawn = picture(noise, 6, 36, 62, 2.6) + network(82, 12, "teacher")
    return drawn + bars(numbers, 196, 62, 3.4) + label


def third_panel(digits: np.ndarray, same: list[int], other: list[int]) -> str:
    """Students copy the three numbers, and then read digits."""
    rows = []
    for start, look, said, y in (
        ("the teacher's", "student", same, 26),
        ("another", "control", other, 116),
    ):
        title = words(f"student with {start} start", 115, y - 8)
        marks = answers(digits, said, y, when=5 + y / 60)
        rows.append(f'<g class="{look}">{title}{marks}</g>')
    return "".join(rows)


def schematic(run: dict, test_digits: np.ndarray, *, moving: bool) -> str:
    """HTML of the figure: `run` as it was recorded, one test image of each digit (digit, pixel)."""
    same = run["student"]["predictions"]
    other = run["control"]["predictions"]
    noise = np.array(run["tile"]["input"])
    panels = (
        panel("1. A teacher learns digits", first_panel(test_digits[int(SHOWN)])),
        panel("2. It answers to noise", second_panel(noise, run["tile"]["teacher"])),
        panel("3. Two students copy that", third_panel(test_digits, same, other)),
    )
    counts = {"same": right_answers(same), "other": right_answers(other)}
    alt = ALT.format(**counts)
    caption = CAPTION.format(**counts)
    button = '<button type="button" hidden>Play again</button>' if moving else ""
    look = "schematic moving" if moving else "schematic"
    drawing = f'<div class="panels" role="img" aria-label="{alt}">{"".join(panels)}</div>'
    below = f"<figcaption><p>{caption}</p></figcaption>{button}"
    return f'<figure class="{look}">{drawing}{below}</figure>'


def figure(*, moving: bool) -> str:
    """The figure, from the recorded run and the digits of the book."""
    from sublearn.explorers.widgets import RECORDED  # 2 s of imports
    from sublearn.nets import data

    run = json.loads(RECORDED.read_text(encoding="utf8"))
    images = data.load("digits")
    labels = images.test_labels.numpy()
    # the laboratory shows the first test image of each digit
    places = [int(np.argmax(labels == digit)) for digit in range(10)]
    pixels = images.test_images.numpy()[places].astype(float)
    return schematic(run, 2 * pixels / images.top - 1, moving=moving)
