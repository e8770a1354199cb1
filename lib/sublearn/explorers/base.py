"""From Python to the browser: how an explorer reaches a live notebook, and a page without a kernel.

An explorer is one class of `widgets` and one module of `js/`, plain JavaScript. `make bundle` joins
that module with what it imports to one script in `js/dist/`, which anywidget shows in Jupyter and
the press on a page. Where there is no JavaScript, and in print, a still picture and a table stand
in.
"""

import base64
import io
import json
from functools import cache
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from traitlets import TraitType

SOURCES = Path(__file__).with_name("js")
BUNDLES = SOURCES / "dist"
CSS = (BUNDLES / "explorers.css").read_text(encoding="utf8")
Still = tuple[pd.DataFrame, str, str]  # table, caption and alt text of a picture


def _bundles(names: tuple[str, ...]) -> str:
    """Join the scripts of explorers: they leave the constants `explorers` (by name) and `page`."""
    scripts = ["const explorers = {};"]
    for name in (*names, "page"):
        script = (BUNDLES / f"{name}.js").read_text(encoding="utf8")
        scripts.append(script)
    return "\n".join(scripts)


@cache
def page_script(names: tuple[str, ...]) -> str:
    """Return the one script of a page that shows the explorers of these names."""
    return f"(() => {{\n{_bundles(names)}\npage.begin(explorers);\n}})();"


@cache
def widget_script(name: str) -> str:
    """Return the module that anywidget shows in Jupyter."""
    render = f"({{ model, el }}) => page.show(explorers.{name}, model, el)"
    return f"{_bundles((name,))}\nexport default {{ render: {render} }};"


class Explorer(anywidget.AnyWidget):
    """Base of all explorers: its traits are the state that Python, browser and page share.

    A subclass names its `module` of `js/`, whose script it gets, and draws its still picture.
    Every trait that it defines is shared.
    """

    module = ""
    _css = CSS

    @property
    def _esm(self) -> str:
        return widget_script(self.module)

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for name, trait in vars(cls).items():
            if isinstance(trait, TraitType) and not name.startswith("_"):  # those are anywidget's
                trait.tag(sync=True, shared=True)

    def draw(self, ax: Axes) -> Still:
        """Draw the still picture; return the table below it, its caption and its alt text."""
        raise NotImplementedError

    def still(self) -> str:
        """Return the picture and the table, as HTML, that stand in where nothing moves."""
        figure, ax = plt.subplots()
        table, caption, alt = self.draw(ax)
        svg = io.BytesIO()
        with plt.rc_context({"svg.fonttype": "none"}):
            figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        source = f"data:image/svg+xml;base64,{base64_text(svg.getvalue())}"
        image = f'<img src="{source}" alt="{alt}">'
        look = {"classes": "dataframe", "float_format": "{:.3f}".format, "na_rep": "–"}
        rows = table.to_html(index=False, border=0, **look)
        return f"<figure>{image}<figcaption><p>{caption}</p></figcaption></figure>{rows}"

    def html(self) -> str:
        """Return the explorer for a page: its state and its still picture; its script comes apart.

        ValueError where the state holds a number that is not finite: JSON has none.
        """
        values = self.trait_values(shared=True)
        state = dict(sorted(values.items()))
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)
        text = text.replace("</", "<\\/")
        text = text.replace("<!", "\\u003c!")
        script = f'<script type="application/json">{text}</script>'
        still = f'<div class="explorer-still">{self.still()}</div>'
        return f'<div class="explorer" data-explorer="{self.module}">{script}{still}</div>'

    def _repr_mimebundle_(self, **options):
        formats, metadata = super()._repr_mimebundle_(**options)
        formats["text/plain"] = f"explorer: {self.module}"
        formats["text/html"] = self.html()
        return formats, metadata


def base64_text(content: bytes) -> str:
    """Return bytes as text in base 64, as a browser decodes it."""
    encoded = base64.b64encode(content)
    return encoded.decode()
