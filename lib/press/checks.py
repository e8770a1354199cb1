"""Checks of a built site that need no browser.

Links, outside hosts, alternative texts and sizes; of chapters also what a kernel leaves on a page
against its author's will, captions without a finding, and intervals of shares outside 0 to 1.
"""

import csv
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
ADDRESSES = {"a": "href", "link": "href", "object": "data"}  # other tags have a `src`
LARGEST = 1_000_000  # bytes of a page without its pictures
SHARES = ("ceiling", "share", "AUC")  # units of values between 0 and 1, not of differences
LEFT = {  # what no page of a chapter should hold, by its kind of output or as it looks
    "warnings of a kernel": re.compile(r'<div class="output stderr\b'),
    "a bare value": re.compile(r'<div class="output text_plain\b'),
    "an error": re.compile(r'<div class="output traceback\b'),
    "a path of a machine": re.compile(r"(?:/home|/root|/tmp|/Users|site-packages)/[\w.-]+"),
    "the address of an object": re.compile(r"[\w.]+ at 0x[0-9a-f]+"),
}
SCRIPT = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL)
CAPTION = re.compile(
    r'<span class="caption-text">(.*?)</span>(?=<a class="headerlink|</p>)', re.DOTALL
)
MARKUP = re.compile(r"<[^>]+>")
ASKS = re.compile(r"(What|Whether|Which|Where|Why|How)\b")
ANSWERS = re.compile(r"\b(depends?|need not|says?|decides?|stays open|differs?)\b")
STATE = re.compile(r"(?:^|&)(?:at=|(?=[a-z]\w*\.))([a-z]\w*)")  # explorers that a link sets


class Page(HTMLParser):
    """What the checks need of a page: its tags with their attributes, and the ids of its places."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.tags: list[tuple[str, dict]] = []
        self.ids = set()
        self.text = path.read_text(encoding="utf8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Keep a tag; called by the parser."""
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        for key in ("id", "name"):
            self.ids.add(attributes.get(key))


def problems(html: Path) -> list[str]:
    """One sentence per fault of the site in the folder `html`; a site in order gives none."""
    html = html.resolve()
    pages = {}
    for path in sorted(html.rglob("*.html")):
        if "_static" not in path.relative_to(html).parts:
            pages[path] = Page(path)
    if not pages:
        return [f"{html} holds no page; build the site first"]
    sentences = []
    for path, page in pages.items():
        name = path.relative_to(html)
        for fault in faults(page, pages):
            sentences.append(f"{name}: {fault}")
    for path in sorted(html.glob("downloads/[0-9][0-9]_*.csv")):
        for fault in share_faults(path):
            sentences.append(f"{path.name}: {fault}")
    return sentences


def faults(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Faults of one page."""
    size = page.path.stat().st_size
    if size > LARGEST:
        yield f"the page has {size:,} bytes; at most {LARGEST:,} are allowed"
    if page.path.parent.name == "notebooks":
        yield from chapter_faults(page)
    for tag, attributes in page.tags:
        address = attributes.get(ADDRESSES.get(tag, "src"))
        if tag == "img":
            yield from image_faults(attributes)
        if not address or attributes.get("rel") == "canonical":
            continue
        if tag == "a":
            yield from link_faults(address, page, pages)
        else:
            yield from load_faults(address, page)


def chapter_faults(page: Page) -> Iterator[str]:
    """What a kernel left on a chapter's page, and captions that begin with no finding."""
    shown = SCRIPT.sub("", page.text)
    for what, look in LEFT.items():
        for found in look.finditer(shown):
            around = MARKUP.sub(" ", shown[found.start() : found.end() + 200])
            words = " ".join(around.split())[:80]
            yield f"it shows {what} ({words}); end the cell with `show`, `tabulate` or `record`"
    for caption in CAPTION.findall(shown):
        words = MARKUP.sub("", caption)
        if not has_finding(words):
            yield f"the caption “{words[:60]} …” asks and does not say what the figure shows"


def has_finding(caption: str) -> bool:
    """Whether a caption's first clause says something: a question alone does not.

    Whether what it says is true, no test can tell.
    """
    clause = re.split(r"[:.] ", caption, maxsplit=1)[0]
    asks = ASKS.match(clause)
    return not asks or bool(ANSWERS.search(clause, asks.end()))


def share_faults(path: Path) -> Iterator[str]:
    """Recorded shares whose interval leaves 0 to 1."""
    with path.open(encoding="utf8", newline="") as file:
        for row in csv.DictReader(file):
            ends = [float(row[key]) for key in ("low", "high") if row[key]]
            if not ends or not row["unit"].startswith(SHARES):
                continue
            if not 0 <= min(ends) <= max(ends) <= 1:
                what = f"the interval {ends} of {row['name']}, a {row['unit']},"
                yield f"{what} leaves 0 to 1; use `share_interval`, or say that it is a change"


def target(page: Page, address: str) -> Path:
    """The file of this site that an address on a page leads to."""
    path = unquote(urlsplit(address).path)
    if not path:
        return page.path
    return (page.path.parent / path).resolve()


def link_faults(address: str, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Faults of an address that a reader may follow; outside ones are not looked at."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return
    file = target(page, address)
    fragment = unquote(parts.fragment)
    if not file.is_file():
        yield f"the link {address} leads to no file"
    elif fragment and file in pages and not place_on(pages[file], fragment):
        yield f"the link {address} leads to no such place on its page"


def place_on(page: Page, fragment: str) -> bool:
    """Whether a page has a place of that name, or all the explorers whose state the name sets."""
    named = set(STATE.findall(fragment)) if "=" in fragment else set()
    shown = {attributes.get("data-explorer") for _, attributes in page.tags}
    return fragment in page.ids or (bool(named) and named <= shown)


def load_faults(address: str, page: Page) -> Iterator[str]:
    """Faults of an address that the browser loads."""
    parts = urlsplit(address)
    if parts.netloc:
        yield f"{address} is loaded from an outside host"
    elif not parts.scheme and not target(page, address).is_file():
        yield f"{address} is loaded but does not exist"


def image_faults(attributes: dict[str, str]) -> Iterator[str]:
    """Faults of an image's alternative text."""
    source = attributes.get("src") or ""
    text = (attributes.get("alt") or "").strip()
    name = "(inline)" if source.startswith("data:") else Path(urlsplit(source).path).name
    if not text:
        yield f"the image {name} has no alternative text"
    elif text.lower().endswith(PICTURES) or Path(name).stem == Path(text).stem:
        yield f"the image {name} has a file name for its alternative text"
