"""Checks of a built site that need no browser: links, addresses of outside hosts, alternative texts, sizes."""

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

OUTSIDE = ("http", "https", "ws", "wss")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
         "embed": "src", "object": "data"}  # fmt: skip
LOADING_LINKS = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "icon", "manifest"}
LARGEST = 1_000_000  # bytes of a page without its pictures


class Page(NamedTuple):
    """What the checks need of a page: ids, addresses linked to, addresses loaded, and (alt, src) of images."""

    ids: set[str]
    links: list[str]
    loads: list[str]
    images: list[tuple[str | None, str]]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = Page(set(), [], [], [])

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.page.ids.update(found[key] for key in ("id", "name") if found.get(key))
        if tag == "img":
            self.page.images.append((found.get("alt"), found.get("src") or ""))
        if tag in LOADS and found.get(LOADS[tag]):
            self.page.loads.append(found[LOADS[tag]])
        if tag == "link" and LOADING_LINKS & set((found.get("rel") or "").split()):
            self.page.loads.append(found.get("href") or "")
        if tag == "a" and found.get("href"):
            self.page.links.append(found["href"])


def read(path: Path) -> Page:
    """Read what the checks need of an HTML page."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def problems(html: Path) -> list[str]:
    """Return one sentence per fault of the site in the folder `html`; a site in order gives none."""
    paths = [path for path in sorted(html.rglob("*.html")) if "_static" not in path.relative_to(html).parts]
    pages = {path.resolve(): read(path) for path in paths}
    if not pages:
        return [f"{html} holds no page; build the site first"]
    found = []
    for path, page in pages.items():
        faults = _links(path, page, pages) + _loads(path, page) + _images(page) + _size(path)
        found += [f"{path.relative_to(html.resolve())}: {fault}" for fault in faults]
    return found


def _target(path: Path, address: str) -> Path:
    return (path.parent / unquote(urlsplit(address).path)).resolve() if urlsplit(address).path else path


def _links(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    faults = []
    for address in page.links:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target, fragment = _target(path, address), unquote(parts.fragment)
        if not target.is_file():
            faults.append(f"the link {address} leads to no file")
        elif fragment and target in pages and fragment not in pages[target].ids:
            faults.append(f"the link {address} leads to no such place on its page")
    return faults


def _loads(path: Path, page: Page) -> list[str]:
    faults = []
    for address in page.loads:
        parts = urlsplit(address)
        if parts.scheme in OUTSIDE or parts.netloc:
            faults.append(f"{address} is loaded from an outside host")
        elif not parts.scheme and not _target(path, address).is_file():
            faults.append(f"{address} is loaded but does not exist")
    return faults


def _images(page: Page) -> list[str]:
    faults = []
    for alt, source in page.images:
        name = Path(urlsplit(source).path).name if not source.startswith("data:") else "(inline)"
        words = (alt or "").strip()
        if not words:
            faults.append(f"the image {name} has no alternative text")
        elif words.lower().endswith(PICTURES) or Path(name).stem == Path(words).stem:
            faults.append(f"the image {name} has a file name for its alternative text")
    return faults


def _size(path: Path) -> list[str]:
    size = path.stat().st_size
    return [f"the page has {size:,} bytes; at most {LARGEST:,} are allowed"] if size > LARGEST else []
