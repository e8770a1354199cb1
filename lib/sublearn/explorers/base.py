"""From Python to the browser: how an explorer reaches a live notebook, and a page without a kernel, from one source.

An explorer is one class of `explorers` and one module of `js/`, plain JavaScript that anywidget shows in Jupyter
and the press on the page. Where there is no JavaScript, and in print, a still picture and a table stand in.
"""

import base64
import io
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from rjsmin import jsmin

BROWSER = Path(__file__).with_name("js")
COMMENT = re.compile(r"/\*.*?\*/\s*", re.DOTALL)
CSS = re.sub(r"([{};:,])\s+|\s+(?=})", r"\1", COMMENT.sub("", (BROWSER / "explorers.css").read_text(encoding="utf8")))
IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const) (\w+))", re.MULTILINE)
PROGRAM = """const program = (name, call) => {
  const named = new Map(parts.map((part) => [part[0], part])), text = [];
  const add = (one) => {
    named.get(one)[1].forEach(add);
    text.push(`modules.${one} ??= (${named.get(one)[2]})(modules);`);
  };
  add(name);
  return ["const modules = {};", ...text, `modules.${name}.${call};`].join("\\n");
};"""


def bundle(names: Iterable[str]) -> str:
    """Join modules of `js/` and what they import to one script, each in a function of its own.

    It leaves the constants `modules` (by name) and `program`, which gives the text of a worker. Comments and
    spaces stay behind. ValueError for a module that imports itself through others, or whose text would end a
    script element.
    """
    parts: dict[str, str] = {}
    for name in names:
        _collect(name, parts, ())
    listed = "const parts = [\n" + ",\n".join(parts.values()) + "\n], modules = {};"
    return f"{listed}\nfor (const [name, , make] of parts) modules[name] = make(modules);\n{PROGRAM}"


def _collect(name: str, parts: dict[str, str], within: tuple[str, ...]) -> None:
    """Add to `parts` the function that makes a module, after those it needs."""
    if name in within:
        raise ValueError(f"{name}.js imports itself through {', '.join(within)}: break the circle")
    if name in parts:
        return
    text = (BROWSER / f"{name}.js").read_text(encoding="utf8")
    if "</script" in text:
        raise ValueError(f"{name}.js contains the text of a closing script tag: split it")
    needs = [found[1] for found in IMPORT.findall(text)]
    for need in needs:
        _collect(need, parts, (*within, name))
    exported = ", ".join(EXPORT.findall(text))
    text = EXPORT.sub("", IMPORT.sub(r"const \1 = modules.\2;", text))
    parts[name] = f'["{name}", {json.dumps(needs)}, (modules) => {{\n{jsmin(text)}\nreturn {{ {exported} }};\n}}]'


@cache
def page_script(names: tuple[str, ...]) -> str:
    """Give the one script of a page that shows the explorers of these names."""
    views = ", ".join(f"{name}: modules.{name}" for name in names)
    return f"(() => {{\n{bundle([*names, 'page'])}\nmodules.page.begin({{ {views} }}, program);\n}})();"


@cache
def widget_script(name: str) -> str:
    """Give the module that anywidget shows in Jupyter."""
    show = f"modules.page.show(modules.{name}, model, el, program)"
    return f"{bundle([name, 'page'])}\nexport default {{ render: ({{ model, el }}) => {show} }};"


class Explorer(anywidget.AnyWidget):
    """What all explorers have in common: their traits are the state that Python, browser and page share.

    A class of its own because ipywidgets asks for one. It names its `module` of `js/` and gives `_esm` its script.
    """

    module = ""
    _css = CSS

    def still(self) -> str:
        """Give the picture and the table, as HTML, that stand in where nothing moves."""
        raise NotImplementedError

    def html(self) -> str:
        """Give the explorer for a page: its state, and what stands in for it; the press adds the script.

        ValueError where the state holds a number that is not finite: JSON has none.
        """
        own = [name for name in self.trait_names(sync=True) if name not in anywidget.AnyWidget.class_trait_names()]
        state = {name: getattr(self, name) for name in sorted(own) if not name.startswith("_")}
        text = json.dumps(state, separators=(",", ":"), allow_nan=False).replace("</", "<\\/").replace("<!", "\\u003c!")
        script = f'<script type="application/json">{text}</script>'
        still = f'<div class="explorer-still">{self.still()}</div>'
        return f'<div class="explorer" data-explorer="{self.module}">{script}{still}</div>'

    def _repr_mimebundle_(self, **options):
        bundle, metadata = super()._repr_mimebundle_(**options)
        return {**bundle, "text/plain": f"explorer: {self.module}", "text/html": self.html()}, metadata


def still_picture(figure: Figure, table: pd.DataFrame, *, caption: str, alt: str) -> str:
    """Give a figure with its caption, and a table, as HTML that holds everything itself."""
    svg = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    address = "data:image/svg+xml;base64," + base64.b64encode(svg.getvalue().encode()).decode()
    rows = table.to_html(index=False, border=0, classes="dataframe", float_format="{:.3f}".format, na_rep="–")
    return f'<figure><img src="{address}" alt="{alt}"><figcaption><p>{caption}</p></figcaption></figure>{rows}'
