"""One PDF of the whole book: the built pages one after the other, printed by Chromium.

Each page begins on a new sheet. Code that the page folds is left out, and links between pages
become links inside the file.
"""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote

from press.edition import Edition
from press.layout import fill, markup
from press.runner import PressError

ARTICLE = re.compile(r'<article class="bd-article">(.*)</article>', re.DOTALL)
HEAD = re.compile(r"<head>(.*?)</head>", re.DOTALL)
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
MATHS = re.compile(
    r"<script[^>]*mathjax.*?</script>|<script>window\.MathJax.*?</script>", re.DOTALL
)
FOLDED = re.compile(r'<details class="admonition hide above-input">.*?</details>', re.DOTALL)
FIRST = re.compile(r'url=([^"]+)"')
NEXT = re.compile(r'<link rel="next" [^>]*href="([^"]+)"')
PLACE = re.compile(r' id="([^"]+)"')
ADDRESS = re.compile(r' (href|src)="([^"]+)"')
ELSEWHERE = ("http:", "https:", "mailto:", "data:")


def pages_of(html: Path) -> list[str]:
    """Names of the site's pages in the order of reading, from its first one on."""
    index = read(html / "index.html")
    name = FIRST.search(index)[1]
    names = [name]
    while follows := NEXT.search(read(html / name)):
        name = inside(html, name, follows[1])
        names.append(name)
    return names


def read(path: Path) -> str:
    """The text of a page."""
    return path.read_text(encoding="utf8")


def inside(html: Path, page: str, address: str) -> str:
    """The name, below the site, of what an address on a page leads to."""
    file = html / page
    if address:
        file = file.parent / address
    name = os.path.relpath(file, html)
    return Path(name).as_posix()


def place(page: str, identity: str = "") -> str:
    """The id, in the whole book, of a place on a page, or of the page."""
    stem = Path(page).stem
    return f"{stem}--{identity}" if identity else stem


def article_of(html: Path, page: str, pages: list[str]) -> str:
    """The article of a page with ids and addresses as they are in the whole book."""
    text = read(html / page)
    article = ARTICLE.search(text)[1]
    still = SCRIPT.sub("", article)
    body = FOLDED.sub("", still)
    body = PLACE.sub(lambda found: f' id="{place(page, found[1])}"', body)

    def moved(found: re.Match) -> str:
        key, address = found.groups()
        if address.startswith(ELSEWHERE):
            return found[0]
        path, _, fragment = address.partition("#")
        name = inside(html, page, path)
        if "=" in fragment:  # the state of an explorer: on paper, its page
            fragment = ""
        if name in pages:
            return f' {key}="#{place(name, fragment)}"'
        return f' {key}="{quote(name)}"'

    body = ADDRESS.sub(moved, body)
    return f'<article class="bd-article" id="{place(page)}">{body}</article>'


def whole_book(html: Path, this: Edition) -> str:
    """HTML of the whole book, to lie in the folder of the site."""
    pages = pages_of(html)
    head = head_of(html, pages[0])
    articles = [article_of(html, page, pages) for page in pages]
    body = "\n".join(articles)
    return fill("book", this=this, head=markup(head), articles=markup(body))


def head_of(html: Path, page: str) -> str:
    """The head of a page for a file in the site's root: its style sheets and MathJax."""
    text = read(html / page)
    head = HEAD.search(text)[1]
    maths = MATHS.findall(head)
    styles = SCRIPT.sub("", head)
    up = "../" * page.count("/")
    whole = "".join([styles, *maths])
    return whole.replace(f'"{up}_static/', '"_static/')


def chromium(playwright) -> str:
    """Path of a Chromium: that of CHROMIUM, the system's, or Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    own = playwright.chromium.executable_path
    places = [os.environ.get("CHROMIUM"), *map(shutil.which, names), own]
    for path in places:
        if path and Path(path).exists():
            return path
    raise PressError("no Chromium found; run `make browser`, or set CHROMIUM to its path")


def print_book(html: Path, target: Path, this: Edition) -> Path:
    """Print the site in the folder `html` to the file `target`."""
    from playwright.sync_api import sync_playwright

    page_file = html / "whole-book.html"
    text = whole_book(html, this)
    page_file.write_text(text, encoding="utf8")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium(playwright), args=["--no-sandbox"]
            )
            page = browser.new_page(color_scheme="light")
            page.set_default_timeout(300_000)
            page.goto(page_file.as_uri(), wait_until="load")
            page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
            page.emulate_media(media="print", color_scheme="light")
            page.pdf(path=str(target), prefer_css_page_size=True, outline=True, tagged=True)
            browser.close()
    finally:
        page_file.unlink()
    return target
