"""One PDF of the whole book: the built pages one after the other, printed by Chromium.

Each page begins on a new sheet. Code that the page folds is left out, and links between pages
become links inside the file.
"""

import os
import re
import shutil
from html import escape
from pathlib import Path
from urllib.parse import quote

from press.edition import Edition
from press.runner import PressError

ARTICLE = re.compile(r'<article class="bd-article">(.*)</article>', re.DOTALL)
HEAD = re.compile(r"<head>(.*?)</head>", re.DOTALL)
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
MATHS = re.compile(
    r"<script[^>]*mathjax.*?</script>|<script>window\.MathJax.*?</script>", re.DOTALL
)
FOLDED = re.compile(r'<details class="admonition hide above-input">.*?</details>', re.DOTALL)
NEXT = re.compile(r'<link rel="next" [^>]*href="([^"]+)"')
PLACE = re.compile(r' id="([^"]+)"')
ADDRESS = re.compile(r' (href|src)="([^"]+)"')
ELSEWHERE = ("http:", "https:", "mailto:", "data:")
SHEET = """<style>
@page { size: A4; margin: 18mm 16mm; }
html { color-scheme: light; } body { background: #fff; }
article.bd-article { break-before: page; padding: 0; max-width: none; }
article.bd-article:first-of-type { break-before: auto; }
.title-page { height: 230mm; display: flex; flex-direction: column; justify-content: center; }
.headerlink, .copybtn, .prev-next-footer { display: none; }
</style>"""


def pages_of(html: Path) -> list[str]:
    """Names of the site's pages in the order of reading, from its first one on."""
    first = re.search(r'url=([^"]+)"', (html / "index.html").read_text(encoding="utf8"))[1]
    names = [first]
    while True:
        follows = NEXT.search((html / names[-1]).read_text(encoding="utf8"))
        if follows is None:
            return names
        path = (html / names[-1]).parent / follows[1]
        names.append(path.resolve().relative_to(html.resolve()).as_posix())


def place(page: str, identity: str = "") -> str:
    """The id, in the whole book, of a place on a page, or of the page."""
    stem = Path(page).stem
    return f"{stem}--{identity}" if identity else stem


def article_of(html: Path, page: str, pages: list[str]) -> str:
    """The article of a page with ids and addresses as they are in the whole book."""
    text = (html / page).read_text(encoding="utf8")
    body = FOLDED.sub("", SCRIPT.sub("", ARTICLE.search(text)[1]))
    body = PLACE.sub(lambda found: f' id="{place(page, found[1])}"', body)

    def moved(found: re.Match) -> str:
        key, address = found.groups()
        if address.startswith(ELSEWHERE):
            return found[0]
        path, _, fragment = address.partition("#")
        file = (html / page).parent / path if path else html / page
        name = Path(os.path.relpath(file, html)).as_posix()
        if name in pages:
            return f' {key}="#{place(name, fragment)}"'
        return f' {key}="{quote(name)}"'

    return f'<article class="bd-article" id="{place(page)}">{ADDRESS.sub(moved, body)}</article>'


def whole_book(html: Path, this: Edition) -> str:
    """HTML of the whole book, to lie in the folder of the site."""
    pages = pages_of(html)
    first = (html / pages[0]).read_text(encoding="utf8")
    head = HEAD.search(first)[1]
    maths = "".join(MATHS.findall(head))
    head = SCRIPT.sub("", head) + maths
    up = "../" * pages[0].count("/")
    head = head.replace(f'"{up}_static/', '"_static/')
    title = f"<h1>{escape(this.title)}</h1>"
    words = f"<p>{escape(', '.join(this.authors))}</p><p>Version {this.version}, {this.date}</p>"
    front = f'<div class="title-page">{title}{words}</div>'
    articles = "\n".join(article_of(html, page, pages) for page in pages)
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light" data-content_root="./">'
        f"<head>{head}{SHEET}</head><body><main>{front}{articles}</main></body></html>"
    )


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
    page_file.write_text(whole_book(html, this), encoding="utf8")
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
