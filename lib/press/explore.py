"""Explorers on pages (a Sphinx extension): a directive for pages of prose, and the one script of each page.

A notebook's output, like the directive, holds an explorer's state and its still picture. The script that brings all
explorers of a page to life is added here, once a page, so that an edit of a script runs no notebook again.
"""

import json
import re

from docutils import nodes
from docutils.parsers.rst import Directive

from press.pages import executed

NAMED = re.compile(r'<div class="explorer" data-explorer="(\w+)">')


class ExplorerDirective(Directive):
    """Shows an explorer: ```{explorer} Laboratory```, or one that a notebook made: ```{explorer} noise 04_inputs```."""

    required_arguments, optional_arguments = 1, 1

    def run(self) -> list[nodes.Node]:
        """Make the explorer, or take it from the executed copy, and give its HTML; an unknown name is an error."""
        return [nodes.raw("", self.quoted() if len(self.arguments) == 2 else self.made(), format="html")]

    def quoted(self) -> str:
        """The notebook's explorer of this module, as its executed copy holds it."""
        module, name = self.arguments
        env = self.state.document.settings.env
        copy = executed(env.app, f"notebooks/{name}")
        env.note_dependency(str(copy))
        cells = json.loads(copy.read_text(encoding="utf-8"))["cells"] if copy and copy.exists() else []
        for output in (output for cell in cells for output in cell.get("outputs", [])):
            html = "".join(output.get("data", {}).get("text/html", []))
            if module in NAMED.findall(html):
                return html
        raise self.error(f"no explorer {module!r} in the executed notebook {name!r}: run it, or name one that shows it")

    def made(self) -> str:
        """An explorer that needs no data of a notebook."""
        from sublearn.explorers.widgets import widgets  # measured: 2 s of imports, which most builds do without

        known = {"Laboratory": widgets.Laboratory, "LaboratoryRuns": widgets.laboratory_runs}
        known |= {"Plane": widgets.Plane, "Step": widgets.Step}
        if self.arguments[0] not in known:
            raise self.error(f"no explorer is called {self.arguments[0]!r}; there are {', '.join(known)}")
        self.state.document.settings.env.note_dependency(widgets.__file__)
        return known[self.arguments[0]]().html()


def add_script(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add style and script to a page that holds explorers (Sphinx event `html-page-context`)."""
    names = tuple(sorted(set(NAMED.findall(context.get("body", "")))))
    if not names:
        return
    from sublearn.explorers.widgets import base  # see above

    context["metatags"] = context.get("metatags", "") + f"\n<style>{base.CSS}</style>"
    context["body"] += f"\n<script>{base.page_script(names)}</script>"


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_directive("explorer", ExplorerDirective)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
