"""What the search finds: each section of the book, with its text, as a script for its page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes

SCRIPT = "searchsections.js"
SCRIPTS = (SCRIPT, "_static/search.js")  # deferred, so that they come after Sphinx's own
WORDS = (nodes.paragraph, nodes.caption, nodes.rubric)


class Section(NamedTuple):
    """Address below the site, titles of page and section, and the text of a section."""

    address: str
    page: str
    title: str
    text: str


def note_sections(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Keep the sections of a page; load the search on its page (Sphinx `html-page-context`)."""
    if pagename == "search":
        tags = "".join(f'\n<script defer src="{name}"></script>' for name in SCRIPTS)
        context["metatags"] = context.get("metatags", "") + tags
    if doctree is not None:
        app.book_sections = [*getattr(app, "book_sections", []), *sections_of(doctree, pagename)]


def sections_of(doctree: nodes.document, pagename: str) -> Iterator[Section]:
    """Sections and entries of a page in their order, each with the text that is its own."""
    page = ""
    texts: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for node in doctree.findall(nodes.Element):
        if isinstance(node, nodes.title) and isinstance(node.parent, nodes.section):
            place = node.parent["ids"][0]
            titles[place] = node.astext()
            page = page or node.astext()
        elif isinstance(node, nodes.term) and node["ids"]:
            titles[node["ids"][0]] = node.astext()
        elif isinstance(node, WORDS):
            text = " ".join(node.astext().split())
            texts.setdefault(place_of(node), []).append(text)
    for place, title in titles.items():
        text = " ".join(texts.get(place, []))
        yield Section(f"{pagename}.html#{place}", page, title, text)


def place_of(node: nodes.Node) -> str:
    """Id of the section, or of the glossary's entry, that a paragraph belongs to."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.definition_list_item):
            terms = [*node.findall(nodes.term)]
            if terms and terms[0]["ids"]:
                return terms[0]["ids"][0]
        if isinstance(node, nodes.section):
            return node["ids"][0]
    return ""


def write_sections(app) -> None:
    """Write the script with all sections of the book."""
    rows = json.dumps(getattr(app, "book_sections", []), ensure_ascii=False)
    path = Path(app.outdir, SCRIPT)
    path.write_text(f"const book_sections = {rows};\n", encoding="utf8")
