"""What stands around a chapter: its goals and times, what can be taken along, footer and lists.

All of it is added while the pages are built, from what the run has left: a figure's data, drawing
and code stand below it, and so do the numbers of a table. No notebook knows of it.
"""

import re
import shutil
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

from press.edition import Edition, cite_box, edition
from press.launch import places
from press.layout import fill, markup
from press.pictures import extent, is_map
from press.runner import CHAPTERS, Project
from press.sections import MARKUP, plain
from sublearn.core import store

PACE = 200  # words a minute
DOWNLOADS = "downloads"  # below the site
CONTENTS = "book/contents"  # the page with the lists
DESCRIBED = 300  # letters of a page's description
ARCHIVED = (1980, 1, 1, 0, 0, 0)  # every file's date in an archive, so that it repeats
FIGURE = re.compile(
    r'<figure class="align-default" id="(?P<id>[^"]+)">\s*'
    r'<img alt="(?P<alt>[^"]*)" src="(?P<source>[^"]+)" />\s*'
    r"<figcaption>(?P<caption>.*?)</figcaption>\s*</figure>",
    re.DOTALL,
)
TABLE = re.compile(r'<table id="T_(?P<stem>[^"]+)" class="dataframe">.*?</table>', re.DOTALL)
TITLED = re.compile(r"<caption>(.*?)</caption>", re.DOTALL)
# How the claim of a row of verdicts ends: with its id and its source.
CLAIM = re.compile(r'_col0" class="data[^>]*>[^<]*\(([A-Za-z][\w-]*), [^<]*</td>')
VERDICT = ">verdict</th>"  # the head of a column of such a table
OWN = ", this book)</td>"  # how the cell of a claim of this book ends
QUOTED = re.compile(r"`([^`<]+)`")  # code in a caption
SENTENCE = re.compile(r"(?<=[.!?])\s")


class Chapter(NamedTuple):
    """A chapter's project and name, and the way from its page to the site's root."""

    project: Project
    name: str
    top: str

    def data(self, stem: str) -> str:
        """Address of the file behind a figure or of a table; empty where none was kept."""
        tables = self.project.results(self.name).with_suffix("")
        if not (tables / f"{stem}.csv").exists():
            return ""
        return f"{self.top}{DOWNLOADS}/{self.name}/{stem}.csv"


class Shown(NamedTuple):
    """A figure of an executed copy: its name less "fig:", its drawing, and its cell's id."""

    stem: str
    svg: str
    cell: str


# ---------------------------------------------------------------- what a copy holds


def figures_of(notebook: dict) -> dict[str, Shown]:
    """Figures of an executed copy by the id that they have on the page."""
    found = {}
    for cell, output in outputs_of(notebook):
        metadata = output.get("metadata", {})
        if "sublearn" in metadata:
            name = metadata["sublearn"]["name"]
            svg = "".join(output["data"]["image/svg+xml"])
            _, _, stem = name.rpartition(":")
            identity = nodes.make_id(name)
            found[identity] = Shown(stem, svg, cell["id"])
    return found


def tables_of(notebook: dict) -> dict[str, str]:
    """Captions of an executed copy's tables by their names."""
    found = {}
    for _, output in outputs_of(notebook):
        data = output.get("data", {})
        html = "".join(data.get("text/html", []))
        for table in TABLE.finditer(html):
            found[table["stem"]] = title_of(table)
    return found


def title_of(table: re.Match) -> str:
    """What a table is called where tables are listed: its caption, or whose claims it judges."""
    claims = CLAIM.findall(table[0])
    if claims and VERDICT in table[0]:
        own = table[0].count(OWN)
        kinds = {0: "Published claims", len(claims): "Predictions of this book"}
        return f"{kinds.get(own, 'Claims')} and their verdicts."
    caption = TITLED.search(table[0])
    return caption[1].replace("`", "") if caption else table["stem"]


def outputs_of(notebook: dict) -> Iterator[tuple[dict, dict]]:
    """Each output with its cell."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            yield cell, output


# ---------------------------------------------------------------- directives


class CiteDirective(Directive):
    """Show how to cite the book."""

    def run(self) -> list[nodes.Node]:
        """HTML of the box."""
        app = self.state.document.settings.env.app
        this = edition(Path(app.srcdir))
        html = cite_box(this, app.config.book_site)
        return [nodes.raw("", html, format="html")]


class ContentsDirective(Directive):
    """Keep a place for the lists of figures and tables, which are known when all pages are read."""

    def run(self) -> list[nodes.Node]:
        """An empty container."""
        self.state.document.settings.env.note_reread()
        return [nodes.container(classes=["book-contents"])]


def fill_contents(app, doctree: nodes.document, docname: str) -> None:
    """Write the lists of figures and tables (Sphinx event `doctree-resolved`)."""
    if docname != CONTENTS:
        return
    for place in [*doctree.findall(nodes.container)]:
        if "book-contents" in place["classes"]:
            place += chapter_lists(app)


def chapter_lists(app) -> Iterator[nodes.Node]:
    """A title and a list for each chapter."""
    root = Path(app.srcdir)
    project = Project(root, app.config.executed_profile)
    for source in sorted((project.root / "notebooks").glob(CHAPTERS)):
        name = f"notebooks/{source.stem}"
        path = project.executed(source.stem)
        copy = store.read_json(path)
        if copy is None or name not in app.env.found_docs:
            continue
        page = app.builder.get_relative_uri(CONTENTS, name)
        entries = nodes.bullet_list()
        for identity, number, caption in numbered_figures(app, name):
            place = ".".join(map(str, number))
            label = f"Figure {place}. {caption}"
            entries += entry(label, f"{page}#{identity}")
        for stem, caption in tables_of(copy).items():
            entries += entry(f"Table. {first_sentence(caption)}", f"{page}#T_{stem}")
        title = app.env.titles[name].astext()
        if len(entries):
            yield nodes.rubric("", title)
            yield entries


def numbered_figures(app, name: str) -> Iterator[tuple[str, tuple, str]]:
    """Id, number and the finding of each figure of a page."""
    numbers = app.env.toc_fignumbers.get(name, {})
    for identity, number in numbers.get("figure", {}).items():
        doctree = app.env.get_doctree(name)
        figure = doctree.ids[identity]
        caption = figure.next_node(nodes.caption)
        text = plain(caption)
        yield identity, number, first_sentence(text)


def entry(text: str, address: str) -> nodes.list_item:
    """An item of a list that leads somewhere."""
    link = nodes.reference("", text, refuri=address, internal=True)
    paragraph = nodes.paragraph("", "", link)
    return nodes.list_item("", paragraph)


def first_sentence(text: str) -> str:
    """The first sentence of a caption."""
    line = " ".join(text.split())
    return SENTENCE.split(line, maxsplit=1)[0]


# ---------------------------------------------------------------- pages


def furnish(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add everything to a page (Sphinx event `html-page-context`)."""
    root = Path(app.srcdir)
    this = edition(root)
    pathto = context["pathto"]
    context.setdefault("metatags", "")
    context["theme_extra_footer"] = footer(this, app.config.book_repository, pathto)
    if doctree is None:
        return
    tags = meta(app, context, doctree)
    context["metatags"] += tags
    name = pagename.removeprefix("notebooks/")
    project = Project(root, app.config.executed_profile)
    copy = store.read_json(project.executed(name))
    if copy is None or name == pagename:
        return
    chapter = Chapter(project, name, context["content_root"])
    figures = figures_of(copy)
    body = with_figure_lines(context["body"], figures, chapter)
    body = with_table_lines(body, chapter)
    facts = chapter_facts(app, chapter, doctree)
    context["body"] = body.replace("</h1>", f"</h1>\n{facts}", 1)


def footer(this: Edition, repository: str, pathto: Callable[[str], str]) -> str:
    """The last line of every page."""
    cite = pathto("book/cite")
    news = pathto("book/changes")
    return fill("footer", this=this, repository=repository, cite=cite, news=news)


def meta(app, context: dict, doctree: nodes.document) -> str:
    """Description, title and picture of a page for search engines and links to it."""
    words = described(doctree)
    title = MARKUP.sub("", context.get("title", ""))
    picture = context["pathto"]("_static/social.png", 1)
    site = app.config.book_site
    if site:
        picture = f"{site}/_static/social.png"
    book = app.config.html_title
    return fill("meta", words=words, title=title, book=book, picture=picture)


def described(doctree: nodes.document) -> str:
    """The beginning of a page's first paragraph."""
    paragraph = doctree.next_node(nodes.paragraph)
    if paragraph is None:
        return ""
    text = plain(paragraph)
    return textwrap.shorten(text, DESCRIBED, placeholder=" …")


def with_figure_lines(body: str, figures: dict[str, Shown], chapter: Chapter) -> str:
    """A page with its figures sized, scrolling where they must, and with their line below."""

    def line(found: re.Match) -> str:
        shown = figures.get(found["id"])
        return figure_html(found, shown, chapter) if shown else found[0]

    return FIGURE.sub(line, body)


def figure_html(found: re.Match, shown: Shown, chapter: Chapter) -> str:
    """A figure: its drawing, which leads to its file, its caption, its data and its code."""
    return fill(
        "figure",
        id=found["id"],
        source=found["source"],
        alt=markup(found["alt"]),
        caption=markup(found["caption"]),
        size=extent(shown.svg),
        look="map" if is_map(shown.svg) else "themed",
        data=chapter.data(shown.stem),
        code=nodes.make_id(f"cell-{shown.cell}"),
    )


def with_table_lines(body: str, chapter: Chapter) -> str:
    """A page with the file below each table, and tables of claims folded behind their strips."""
    from press.scoreboard import forest  # 2 s of imports

    def line(found: re.Match) -> str:
        data = chapter.data(found["stem"])
        table = markup(TITLED.sub(_with_code, found[0]))
        names = CLAIM.findall(table)
        if names and VERDICT in table:
            label = f"Claims and verdicts, {found['stem']}"
            strips = forest(chapter.project, names, label)
            return fill("claims", strips=markup(strips), table=table, data=data)
        return fill("table", table=table, data=data) if data else table

    return TABLE.sub(line, body)


def _with_code(caption: re.Match) -> str:
    """A table's caption with its code as code."""
    return QUOTED.sub(r"<code>\1</code>", caption[0])


def chapter_facts(app, chapter: Chapter, doctree: nodes.document) -> str:
    """The box under a chapter's title: goals, times, what can be taken along, where it runs."""
    project, name, top = chapter
    goals = read_yaml(project.root / "book/goals.yml")
    profiles = read_yaml(project.root / "profiles.yml")
    measured = profiles[project.profile].get("seconds", {})
    config = app.config
    this = edition(project.root)
    return fill(
        "facts",
        goals=goals.get(name[:2], []),
        minutes=-(-words_of(doctree) // PACE),
        seconds=measured.get(name),
        profile=project.profile,
        hubs=places(config.book_repository, config.book_pages_branch, this, name),
        top=top,
        name=name,
    )


def read_yaml(path: Path) -> dict:
    """What a YAML file holds."""
    text = path.read_text(encoding="utf8")
    return yaml.safe_load(text)


def words_of(doctree: nodes.document) -> int:
    """Words of a page's sentences and captions."""
    count = 0
    for kind in (nodes.paragraph, nodes.caption):
        for node in doctree.findall(kind):
            words = plain(node).split()
            count += len(words)
    return count


# ---------------------------------------------------------------- files


def put_downloads(project: Project, html: Path) -> None:
    """Copy executed notebooks, numbers and tables below the site, and all results as one file."""
    target = html / DOWNLOADS
    results = project.results("x").parent
    shutil.copytree(results, target, dirs_exist_ok=True)
    for copy in sorted(project.executed("x").parent.glob(CHAPTERS)):
        shutil.copy(copy, target)
    with zipfile.ZipFile(target / "results.zip", "w") as archive:
        for path in sorted(results.rglob("*.csv")):
            name = path.relative_to(results).as_posix()
            entry = zipfile.ZipInfo(name, ARCHIVED)
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
