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
from matplotlib.figure import Figure
from traitlets import TraitType

SOURCES = Path(__file__).with_name("js")
BUNDLES = SOURCES / "dist"
CSS = (BUNDLES / "explorers.css").read_text(encoding="utf8")


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

    A subclass names its `module` of `js/`, whose script it gets. Every trait that it defines is
    shared.
    """

    module = ""
    _css = CSS

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "module" in vars(cls):  # ipywidgets makes further subclasses for single widgets
            cls._esm = widget_script(cls.module)
        for trait in vars(cls).values():
            if isinstance(trait, TraitType):
                trait.tag(sync=True)

    def still(self) -> str:
        """Return the picture and the table, as HTML, that stand in where nothing moves."""
        raise NotImplementedError

    def html(self) -> str:
        """Return the explorer for a page: its state and its still picture; its script comes apart.

        ValueError where the state holds a number that is not finite: JSON has none.
        """
        inherited = anywidget.AnyWidget.class_trait_names()
        state = {}
        for name in sorted(self.trait_names(sync=True)):
            if name not in inherited and not name.startswith("_"):
                state[name] = getattr(self, name)
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)
        text = text.replace("</", "<\\/").replace("<!", "\\u003c!")
        script = f'<script type="application/json">{text}</script>'
        still = f'<div class="explorer-still">{self.still()}</div>'
        return f'<div class="explorer" data-explorer="{self.module}">{script}{still}</div>'

    def _repr_mimebundle_(self, **options):
        formats, metadata = super()._repr_mimebundle_(**options)
        formats["text/plain"] = f"explorer: {self.module}"
        formats["text/html"] = self.html()
        return formats, metadata


def still_picture(figure: Figure, table: pd.DataFrame, *, caption: str, alt: str) -> str:
    """Return a figure with its caption, and a table, as HTML that holds everything itself."""
    svg = io.BytesIO()
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    encoded = base64.b64encode(svg.getvalue()).decode()
    image = f'<img src="data:image/svg+xml;base64,{encoded}" alt="{alt}">'
    look = {"border": 0, "classes": "dataframe", "float_format": "{:.3f}".format, "na_rep": "–"}
    rows = table.to_html(index=False, **look)
    return f"<figure>{image}<figcaption><p>{caption}</p></figcaption></figure>{rows}"
