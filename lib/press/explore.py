"""Explorers on pages (a Sphinx extension): a directive for pages of prose, and the one script of each page.

A notebook's output, like the directive, holds an explorer's state and its still picture. The script that brings all
explorers of a page to life is added here, once a page, so that an edit of a script runs no notebook again.
"""

import re

from docutils import nodes
from docutils.parsers.rst import Directive

NAMED = re.compile(r'<div class="explorer" data-explorer="(\w+)">')


class ExplorerDirective(Directive):
    """Shows an explorer that needs no data of a notebook: ```{explorer} Laboratory```."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the explorer and give its HTML; an unknown name is an error of the page."""
        from sublearn import explorers  # measured: 2 s of imports, which most builds do without

        known = {"Laboratory": explorers.Laboratory, "LaboratoryRuns": explorers.laboratory_runs}
        known |= {"Plane": explorers.Plane, "Step": explorers.Step}
        if self.arguments[0] not in known:
            raise self.error(f"no explorer is called {self.arguments[0]!r}; there are {', '.join(known)}")
        self.state.document.settings.env.note_dependency(explorers.__file__)
        return [nodes.raw("", known[self.arguments[0]]().html(), format="html")]


def add_script(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add style and script to a page that holds explorers (Sphinx event `html-page-context`)."""
    names = tuple(sorted(set(NAMED.findall(context.get("body", "")))))
    if not names:
        return
    from sublearn import embed  # see above

    context["metatags"] = context.get("metatags", "") + f"\n<style>{embed.CSS}</style>"
    context["body"] += f"\n<script>{embed.page_script(names)}</script>"


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_directive("explorer", ExplorerDirective)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
