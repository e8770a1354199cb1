"""What stands around a chapter: its goals and times, what can be taken along, footer and lists.

All of it is added while the pages are built, from what the run has left: a figure's data, drawing
and code stand below it, and so do the numbers of a table. No notebook knows of it.
"""

import re
import shutil
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

from press.edition import Edition, cite_box, edition
from press.launch import places
from press.pictures import extent, is_map
from press.runner import CHAPTERS, Project
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
SENTENCE = re.compile(r"(?<=[.!?])\s")


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
        name = output.get("metadata", {}).get("sublearn", {}).get("name")
        if name:
            svg = "".join(output["data"]["image/svg+xml"])
            found[nodes.make_id(name)] = Shown(name.split(":")[-1], svg, cell["id"])
    return found


def tables_of(notebook: dict) -> dict[str, str]:
    """Captions of an executed copy's tables by their names."""
    found = {}
    for _, output in outputs_of(notebook):
        html = "".join(output.get("data", {}).get("text/html", []))
        for table in TABLE.finditer(html):
            caption = TITLED.search(table[0])
            found[table["stem"]] = caption[1] if caption else table["stem"]
    return found


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
        html = cite_box(edition(Path(app.srcdir)), app.config.book_site)
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
    project = Project(Path(app.srcdir), app.config.executed_profile)
    for source in sorted((project.root / "notebooks").glob(CHAPTERS)):
        name = f"notebooks/{source.stem}"
        copy = store.read_json(project.executed(source.stem))
        if copy is None or name not in app.env.found_docs:
            continue
        page = app.builder.get_relative_uri(CONTENTS, name)
        entries = nodes.bullet_list()
        for identity, number, caption in numbered_figures(app, name):
            label = f"Figure {'.'.join(map(str, number))}. {caption}"
            entries += entry(label, f"{page}#{identity}")
        for stem, caption in tables_of(copy).items():
            entries += entry(f"Table. {first_sentence(caption)}", f"{page}#T_{stem}")
        title = app.env.titles[name].astext()
        if len(entries):
            yield nodes.rubric("", title)
            yield entries


def numbered_figures(app, name: str) -> Iterator[tuple[str, tuple, str]]:
    """Id, number and the finding of each figure of a page."""
    numbers = app.env.toc_fignumbers.get(name, {}).get("figure", {})
    for figure in app.env.get_doctree(name).findall(nodes.figure):
        identity = next((name for name in figure["ids"] if name in numbers), None)
        caption = figure.next_node(nodes.caption)
        if identity and caption is not None:
            yield identity, numbers[identity], first_sentence(caption.astext())


def entry(text: str, address: str) -> nodes.list_item:
    """An item of a list that leads somewhere."""
    link = nodes.reference("", text, refuri=address, internal=True)
    return nodes.list_item("", nodes.paragraph("", "", link))


def first_sentence(text: str) -> str:
    """The first sentence of a caption."""
    return SENTENCE.split(" ".join(text.split()), maxsplit=1)[0]


# ---------------------------------------------------------------- pages


def furnish(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add everything to a page (Sphinx event `html-page-context`)."""
    root = Path(app.srcdir)
    this = edition(root)
    context["theme_extra_footer"] = footer(this, app.config.book_repository, context["pathto"])
    if doctree is None:
        return
    context["metatags"] = context.get("metatags", "") + meta(app, context, doctree)
    project = Project(root, app.config.executed_profile)
    name = pagename.removeprefix("notebooks/")
    copy = store.read_json(project.executed(name)) if name != pagename else None
    if copy is None:
        return
    top = context["content_root"]
    tables = project.results(name).with_suffix("")
    body = with_figure_lines(context["body"], figures_of(copy), tables, top, name)
    body = with_table_lines(body, tables, top, name)
    facts = chapter_facts(app, project, name, doctree, top)
    context["body"] = body.replace("</h1>", f"</h1>\n{facts}", 1)


def footer(this: Edition, repository: str, pathto) -> str:
    """The last line of every page."""
    cite, news = pathto("book/cite"), pathto("book/changes")
    parts = [
        f'Version {escape(this.version)}, <time datetime="{this.date}">{this.date:%-d %B %Y}</time>',
        'Code: MIT. Text and figures: <a href="https://creativecommons.org/licenses/by/4.0/">'
        "CC BY 4.0</a>",
        f'<a href="{cite}">How to cite</a>',
        f'<a href="{news}">What is new</a>',
    ]
    if repository:
        parts.append(f'<a href="{escape(repository)}">Repository</a>')
    return f"<p>{' · '.join(parts)}</p>"


def meta(app, context: dict, doctree: nodes.document) -> str:
    """Description, title and picture of a page for search engines and links to it."""
    paragraph = doctree.next_node(nodes.paragraph)
    words = "" if paragraph is None else " ".join(paragraph.astext().split())
    if len(words) > DESCRIBED:
        words = words[:DESCRIBED].rsplit(" ", 1)[0] + " …"
    title = re.sub(r"<[^>]+>", "", context.get("title", ""))
    picture = context["pathto"]("_static/social.png", 1)
    if app.config.book_site:
        picture = f"{app.config.book_site.rstrip('/')}/_static/social.png"
    tags = [f'<meta name="description" content="{escape(words)}">']
    for key, value in (
        ("title", title),
        ("description", words),
        ("type", "article"),
        ("site_name", app.config.html_title),
        ("image", picture),
    ):
        tags.append(f'<meta property="og:{key}" content="{escape(str(value))}">')
    return "\n" + "\n".join(tags)


def with_figure_lines(body: str, figures: dict, tables: Path, top: str, name: str) -> str:
    """A page with its figures sized, scrolling where they must, and with their line below."""

    def line(found: re.Match) -> str:
        shown = figures.get(found["id"])
        return found[0] if shown is None else figure_html(found, shown, tables, top, name)

    return FIGURE.sub(line, body)


def figure_html(found: re.Match, shown: Shown, tables: Path, top: str, name: str) -> str:
    """A figure: its drawing, which leads to its file, its caption, its data and its code."""
    size = extent(shown.svg)
    look = "map" if is_map(shown.svg) else "themed"
    image = (
        f'<img class="{look}" alt="{found["alt"]}" src="{found["source"]}" width="{size.width}" '
        f'height="{size.height}" style="--narrowest: {size.narrowest}px" />'
    )
    links = [f'<a class="enlarge" href="{found["source"]}">Drawing (SVG)</a>']
    if (tables / f"{shown.stem}.csv").exists():
        address = f"{top}{DOWNLOADS}/{name}/{shown.stem}.csv"
        links.insert(0, f'<a href="{address}" download>Data (CSV)</a>')
    links.append(f'<a class="to-code" href="#{nodes.make_id(f"cell-{shown.cell}")}">Code</a>')
    return (
        f'<figure class="align-default" id="{found["id"]}">\n'
        f'<div class="sheet"><a class="enlarge" href="{found["source"]}">{image}</a></div>\n'
        f'<figcaption>{found["caption"]}<p class="take-along">{" · ".join(links)}</p></figcaption>\n'
        "</figure>"
    )


def with_table_lines(body: str, tables: Path, top: str, name: str) -> str:
    """A page with a link to the file below each table that was kept as one."""

    def line(found: re.Match) -> str:
        stem = found["stem"]
        if not (tables / f"{stem}.csv").exists():
            return found[0]
        address = f"{top}{DOWNLOADS}/{name}/{stem}.csv"
        return f'{found[0]}\n<p class="take-along"><a href="{address}" download>Data (CSV)</a></p>'

    return TABLE.sub(line, body)


def chapter_facts(app, project: Project, name: str, doctree: nodes.document, top: str) -> str:
    """The box under a chapter's title: goals, times, what can be taken along, where it runs."""
    goals = yaml.safe_load((project.root / "book/goals.yml").read_text(encoding="utf8"))
    items = "".join(f"<li>{escape(goal)}</li>" for goal in goals.get(name[:2], []))
    parts = []
    if items:
        parts.append(f"<p><strong>After this chapter you can</strong></p><ul>{items}</ul>")
    parts.append(f"<p>{times(project, name, doctree)}</p>")
    source = f'<a href="{top}_sources/notebooks/{name}.ipynb" download>notebook</a>'
    links = [source]
    for suffix, text in (("ipynb", "with its outputs"), ("csv", "its numbers")):
        links.append(f'<a href="{top}{DOWNLOADS}/{name}.{suffix}" download>{text}</a>')
    links.append(f'<a href="{top}{DOWNLOADS}/results.zip" download>all results</a>')
    parts.append(f"<p>To take along: {', '.join(links)}.</p>")
    here = edition(project.root)
    hubs = places(app.config.book_repository, app.config.book_pages_branch, here, name)
    if hubs:
        opened = ", ".join(f'<a href="{escape(url)}">{hub}</a>' for hub, url in hubs.items())
        parts.append(f"<p>Open it in {opened}.</p>")
    parts.append('<button type="button" class="code-switch" hidden></button>')
    return f'<div class="chapter-facts" role="note" aria-label="About this chapter">{"".join(parts)}</div>'


def times(project: Project, name: str, doctree: nodes.document) -> str:
    """How long a chapter takes to read, by its words, and to run, as it was measured."""
    minutes = max(1, round(words_of(doctree) / PACE))
    sentence = f"Reading: about {minutes} minutes."
    profiles = yaml.safe_load((project.root / "profiles.yml").read_text(encoding="utf8"))
    seconds = profiles[project.profile].get("seconds", {}).get(name)
    if seconds:
        long = f"{seconds} seconds" if seconds < 90 else f"{round(seconds / 60)} minutes"
        sentence += f" Running: about {long} on two cores, in the profile {project.profile}."
    return sentence


def words_of(doctree: nodes.document) -> int:
    """Words of a page's sentences and captions."""
    count = 0
    for kind in (nodes.paragraph, nodes.caption):
        for node in doctree.findall(kind):
            count += len(node.astext().split())
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
