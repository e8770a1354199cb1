"""What the search finds: each section of the book, with its text, as a script for its page."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple

from docutils import nodes

SCRIPT = "searchsections.js"
SCRIPTS = f"""
<script defer src="{SCRIPT}"></script>
<script defer src="_static/search.js"></script>
"""  # deferred, so that they come after Sphinx's own
MARKUP = re.compile(r"<[^>]+>")
WORDS = (nodes.paragraph, nodes.caption, nodes.rubric)


class Section(NamedTuple):
    """Address below the site, titles of page and section, and the text of a section."""

    address: str
    page: str
    title: str
    text: str


def note_sections(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Keep the sections of a page; load the search on its page (Sphinx `html-page-context`)."""
    context.setdefault("metatags", "")
    if pagename == "search":
        context["metatags"] += SCRIPTS
    if doctree is not None:
        found = sections_of(doctree, pagename)
        app.book_sections.extend(found)


def sections_of(doctree: nodes.document, pagename: str) -> Iterator[Section]:
    """Sections and entries of a page in their order, each with the text that is its own."""
    page = ""
    texts = defaultdict(list)
    titles = {}
    for node in doctree.findall(nodes.Element):
        if isinstance(node, nodes.title) and isinstance(node.parent, nodes.section):
            place = node.parent["ids"][0]
            title = node.astext()
            titles[place] = title
            page = page or title
        elif isinstance(node, nodes.term) and node["ids"]:
            place = node["ids"][0]
            titles[place] = node.astext()
        elif isinstance(node, WORDS):
            place = place_of(node)
            texts[place].append(plain(node))
    for place, title in titles.items():
        text = " ".join(texts[place])
        address = f"{pagename}.html#{place}"
        yield Section(address, page, title, text)


def plain(node: nodes.Node) -> str:
    """The words of a node on one line, without the tags of links that are HTML already."""
    parts = []
    for text in node.findall(nodes.Text):
        words = text.astext()
        if isinstance(text.parent, nodes.raw):
            words = unescape(MARKUP.sub("", words))
        parts.append(words)
    return " ".join("".join(parts).split())


def place_of(node: nodes.Node) -> str:
    """Id of the section, or of the glossary's entry, that a paragraph belongs to."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.definition_list_item):
            term = node.next_node(nodes.term)
            if term["ids"]:
                return term["ids"][0]
        if isinstance(node, nodes.section):
            return node["ids"][0]
    return ""


def write_sections(app) -> None:
    """Write the script with all sections of the book."""
    rows = json.dumps(app.book_sections, ensure_ascii=False)
    path = Path(app.outdir, SCRIPT)
    path.write_text(f"const book_sections = {rows};\n", encoding="utf8")
