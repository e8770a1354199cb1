"""Links from the first use of a glossary's word on a page to its entry, with the entry beside it.

Authors write plain sentences: at build time the first place of each page that uses a word of the
glossary becomes a link, and `book/_static/terms.js` shows the entry on hover and on focus.
"""

import re
from collections.abc import Iterator
from html import escape

from docutils import nodes

GLOSSARY = "book/glossary"
UNLINKED = {GLOSSARY, "book/bibliography", "book/notation"}  # pages without links of this kind
LONGEST = 320  # letters of a preview
# Words that also have an everyday meaning are linked in these phrases alone.
PHRASES = {
    "agreement": r"agreement(?= of the two directions)",
    "chance": r"(?<=\bat )chance|(?<=near )chance|(?<=above )chance|(?<=below )chance",
    "digits": r"8 x 8 digits|digits of 8 x 8 pixels",
    "displacement": r"displacements?(?! points)",
    "leak": r"(?<=print the )leak",
    "lesson": r"(?<=One )lesson|lessons(?= of one model)|(?<=called a )lesson|\*lesson\*",
    "model": r"(?<=means over )models|models(?= an arm)|(?<=paired by )model",
    "power": r"(?<=% )power|(?<=statistical )power",
    "profile": r"(?<=the )profile",
    "setting": r"(?<=[Tt]he reference )setting",
    "share": r"share(?= of (?:the|a) (?:class column|class head|displacement))",
    "strong": r"(?<=share of )strong(?= pairs)|strong(?= in both)",
}
CLOSED = (  # no link inside of these
    nodes.title,
    nodes.reference,
    nodes.literal_block,
    nodes.raw,
    nodes.math,
    nodes.math_block,
    nodes.table,
    nodes.figure,
    nodes.caption,
    nodes.term,
    nodes.comment,
)


def entries(app) -> dict[str, tuple[str, str]]:
    """Words of the glossary: each with the id of its entry and the entry's text."""
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        definition = item.next_node(nodes.definition).deepcopy()
        for citation in [*definition.findall(_is_citation)]:
            citation.parent.remove(citation)
        text = " ".join(definition.astext().split()).replace(" .", ".")
        if len(text) > LONGEST:
            text = text[:LONGEST].rsplit(" ", 1)[0] + " …"
        for term in item.findall(nodes.term):
            found[term.astext()] = (term["ids"][0], text)
    return found


def _is_citation(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Element) and node.get("refdomain") == "cite"


def pattern(word: str) -> re.Pattern:
    """What counts as a use of a word: itself or its plural, with a capital at will."""
    phrase = PHRASES.get(word)
    if phrase is None:
        first = f"[{word[0].upper()}{word[0].lower()}]" if word[0].isalpha() else re.escape(word[0])
        phrase = f"{first}{re.escape(word[1:])}" + ("" if word.endswith("s") else "s?")
        if word.isupper() or "_" in word:
            phrase = re.escape(word)
    return re.compile(rf"(?<![\w`-])(?:{phrase})(?![\w-])")


def anchor(text: str, address: str, preview: str) -> nodes.raw:
    """A link to an entry of the glossary that carries the entry's text."""
    properties = (
        f'class="reference internal term" href="{address}" data-preview="{escape(preview)}"'
    )
    return nodes.raw("", f"<a {properties}>{escape(text)}</a>", format="html")


def link_terms(app, doctree: nodes.document, docname: str) -> None:
    """Link first uses on a page (Sphinx event `doctree-resolved`)."""
    if app.builder.format != "html" or docname == GLOSSARY:
        return
    words = entries(app)
    page = app.builder.get_relative_uri(docname, GLOSSARY)
    by_id = {f"{page}#{place}": preview for place, preview in words.values()}
    for node in [*doctree.findall(nodes.reference)]:
        if node.get("refuri") in by_id:
            link = anchor(node.astext(), node["refuri"], by_id[node["refuri"]])
            node.parent.replace(node, link)
    if docname in UNLINKED:
        return
    for word in sorted(words, key=len, reverse=True):
        place, preview = words[word]
        _link_first(doctree, pattern(word), f"{page}#{place}", preview)


def _link_first(doctree: nodes.document, use: re.Pattern, address: str, preview: str) -> None:
    for text in open_texts(doctree):
        found = use.search(text)
        if found:
            link = anchor(found[0], address, preview)
            before = nodes.Text(text[: found.start()])
            after = nodes.Text(text[found.end() :])
            text.parent.replace(text, [before, link, after])
            return


def open_texts(doctree: nodes.document) -> Iterator[nodes.Text]:
    """Texts of a page's sentences, less what is closed to links."""
    for text in [*doctree.findall(nodes.Text)]:
        around = []
        node = text.parent
        while node is not None:
            around.append(node)
            node = node.parent
        closed = any(isinstance(node, CLOSED) for node in around)
        if not closed and any(isinstance(node, nodes.paragraph) for node in around):
            yield text
