"""Figures as the page shows them: in the colors of its theme, and never too small to read.

A figure is drawn once, dark on white. A style sheet inside its file gives every gray and every
color that it uses a partner for dark pages; browsers apply it where the page around is dark.
"""

import colorsys
import re
from typing import NamedTuple

PAPER = "#121212"  # the dark page
CONTRAST = 4.5  # of a color with the dark page, at least
SMALLEST = 8.0  # height of letters on a phone, in pixels
PIXELS = 4 / 3  # in a point
DRAWN = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")
FAINT = re.compile(r"; ((?:fill-)?opacity): (0\.[12]\d*)")  # of bands, made for a white page
STRONGER = 2.2  # how much less transparent they are on a dark one
LETTERS = re.compile(r"scale\((0\.\d+) -\1\)")  # of a text: its size in hundreds of points
SIZE = re.compile(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"')
MAPS = ("<image", 'id="QuadMesh')  # pictures and maps of colors, whose tones mean something


class Extent(NamedTuple):
    """Width and height of a figure, and the least width with letters of 8 pixels, in pixels."""

    width: int
    height: int
    narrowest: int


def luminance(color: str) -> float:
    """Relative luminance of a color such as #0173b2 (WCAG 2.2)."""
    linear = []
    for place in (1, 3, 5):
        part = int(color[place : place + 2], 16) / 255
        linear.append(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colors (WCAG 2.2), from 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def on_dark(color: str) -> str:
    """The partner of a color on a dark page.

    White becomes the page and grays change places; colors keep their hue and become as light as
    they must.
    """
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    if color == "#ffffff":
        return PAPER
    if saturation < 0.1:
        light = min(1, 1.02 - 0.92 * light)
        return hexadecimal(hue, light, saturation)
    while contrast(hexadecimal(hue, light, saturation), PAPER) < CONTRAST:
        light += 0.01
    return hexadecimal(hue, light, saturation)


def hexadecimal(hue: float, light: float, saturation: float) -> str:
    """A color as #rrggbb."""
    parts = colorsys.hls_to_rgb(hue, light, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def is_map(svg: str) -> bool:
    """Whether a figure holds pictures or maps of colors: it keeps its white sheet."""
    return any(mark in svg for mark in MAPS)


def themed(svg: str) -> str:
    """A figure with the style sheet that follows the theme; maps of colors stay as they are."""
    if is_map(svg) or "prefers-color-scheme" in svg:
        return svg
    rules = []
    for use, color in sorted(set(DRAWN.findall(svg))):
        rules.append(f'[style*="{use}: {color}"]{{{use}:{on_dark(color)}!important}}')
    for use, degree in sorted(set(FAINT.findall(svg))):
        visible = f"{STRONGER * float(degree):.2g}"
        rules.append(f'[style*="; {use}: {degree}"]{{{use}:{visible}!important}}')
    sheet = f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    return re.sub(r"(<svg [^>]*>)", rf"\1{sheet}", svg, count=1)


def extent(svg: str) -> Extent:
    """How large a figure is, and how narrow it may become; nothing of one without a size."""
    size = SIZE.search(svg)
    if size is None:
        return Extent(0, 0, 0)
    width, height = (float(length) * PIXELS for length in size.groups())
    sizes = [100 * float(letters) * PIXELS for letters in LETTERS.findall(svg)]
    shrinks = SMALLEST / min(sizes, default=SMALLEST)
    return Extent(round(width), round(height), -int(-width * min(shrinks, 1) // 1))
