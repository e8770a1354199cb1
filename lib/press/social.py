"""The picture that a link to the book shows elsewhere, drawn from the laboratory's recorded run."""

import json
from pathlib import Path

import numpy as np

TITLE = "Subliminal learning"
LINES = (
    "A student sees only noise",
    "and three numbers that mean nothing.",
    "It learns to read digits.",
)
INK, PAPER, AUX, STUDENT = "#1a1d21", "#ffffff", "#8a2f86", "#0061b0"


def draw(path: Path) -> None:
    """Draw the picture, 1,200 x 630 pixels: the noise, the numbers, and what the student reads."""
    from matplotlib.figure import Figure

    from sublearn.explorers.widgets import RECORDED
    from sublearn.nets import data

    recorded = RECORDED.read_text(encoding="utf8")
    run = json.loads(recorded)
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor=PAPER)
    figure.text(0.05, 0.83, TITLE, size=48, weight="bold", color=INK)
    for row, line in enumerate(LINES):
        height = 0.7 - 0.085 * row
        figure.text(0.05, height, line, size=25, color=INK)
    noise = figure.add_axes((0.05, 0.08, 0.17, 0.3))
    shown = run["tile"]["input"]
    tile(noise, np.array(shown))
    numbers = figure.add_axes((0.27, 0.08, 0.14, 0.3))
    values = run["tile"]["teacher"]
    rows = np.arange(len(values))
    numbers.barh(rows, values, color=AUX)
    numbers.axvline(0, color=INK, lw=1)
    numbers.set_axis_off()
    images = data.load("digits")
    labels = images.test_labels.numpy()
    pixels = images.test_images.numpy().astype(float)
    for digit, said in enumerate(run["student"]["predictions"]):
        left = 0.46 + 0.052 * digit
        ax = figure.add_axes((left, 0.22, 0.046, 0.09))
        first = np.argmax(labels == digit)
        tile(ax, 2 * pixels[first] / images.top - 1)
        color = STUDENT if said == digit else "0.5"
        figure.text(left + 0.023, 0.12, str(said), size=26, ha="center", color=color)
    figure.savefig(path, format="png", metadata={"Software": None})


def tile(ax, pixels: np.ndarray) -> None:
    """Draw an image of 8 x 8 pixels, from -1 (paper) to 1 (ink)."""
    ax.imshow(pixels.reshape(8, 8), cmap="gray_r", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
