"""The site, the Sphinx extension that shows the executed copies, and the command line.

Notebooks lie in git without outputs. The runner leaves executed copies in
`_build/executed/PROFILE/`. At the event `source-read` this extension puts the copy's text in the
place of the source, so that the page shows the outputs while its download button still gives the
clean notebook.

A notebook's output, like the directive `explorer`, holds an explorer's state and its still picture.
The script that brings all explorers of a page to life is added here, once a page, so that its edit
runs no notebook again.
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

from press.checks import problems
from press.diagrams import sketch
from press.edition import edition
from press.furniture import (
    CiteDirective,
    ContentsDirective,
    fill_contents,
    furnish,
    put_downloads,
)
from press.launch import alone, first_cell, wheel
from press.narrow import narrow
from press.pdf import print_book
from press.pictures import themed
from press.reference import PROFILE, folder_of, keep, print_diff, staleness
from press.runner import PressError, Project, plan, private_environment, profile_lock, run, tags
from press.schematic import figure
from press.sections import note_sections, write_sections
from press.terms import link_terms
from sublearn.core import store
from sublearn.nets.data import DataCorrupt

BUILD = "from jupyter_book.cli.main import main; main()"
OPTIONS = "--warningiserror --nitpick --keep-going --all --quiet".split()
COLOR = re.compile(r"\x1b\[[\d;]*m")
# Hidden and compiled files, backups, and what file managers leave.
SKIPPED = re.compile(r"/\.|\.pyc$|~$|/(Icon\r|Thumbs\.db|desktop\.ini)$")
LIBRARY = Path(__file__).resolve().parents[1]
CODE = ("press/*.py", "press/html/*", "sublearn/explorers/**/*")  # below the library
SOURCES = (  # below the project
    "_config.yml",
    "_toc.yml",
    "CHANGELOG.md",
    "CITATION.cff",
    "profiles.yml",
    "book/**/*",
    "notebooks/**/*",
)
VERBATIM = re.compile(r"(<(?:pre|script|style|code)\b.*?</(?:pre|script|style|code)>)", re.DOTALL)
PERCENT = re.compile(r"(?<=\d) %")
NAMED = re.compile(r'<div class="explorer" data-explorer="(\w+)">')
MATHJAX = (  # 2 MB of the packaged 24 MB
    "mathjax/tex-chtml.js",
    "mathjax/input/tex/extensions/*",
    "mathjax/output/chtml/fonts/woff-v2/*",
)
REDIRECT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="0; url={page}"><link rel="canonical" href="{page}"></head>
<body><p><a href="{page}">{title}</a></p></body></html>
"""
log = logging.getLogger("sphinx.press.site")  # where Sphinx listens; its own takes a second


class SiteError(RuntimeError):
    """The site could not be built; the text holds every warning and error of the build."""


# ---------------------------------------------------------------- the build


def build(project: Project) -> Path:
    """Build the site of one profile unless nothing it is made of has changed; its folder.

    The laptop profile goes to `_build/html`, any other to `_build/PROFILE/html`. A warning is an
    error (`SiteError`), and so is what `problems` finds; the site that was there then stays.
    """
    folder = project.root / "_build"
    html = folder / ("html" if project.profile == "laptop" else f"{project.profile}/html")
    stamp = html.parent / "site.digest"
    last = html.with_name("html.last")  # the good site while another takes its place
    with profile_lock(project):
        if last.exists() and not html.exists():
            last.rename(html)
        digest = inputs_digest(project)
        if (html / "index.html").exists() and stamp.exists() and stamp.read_text() == digest:
            return html
        built = build_aside(project)
        stamp.unlink(missing_ok=True)
        html.parent.mkdir(exist_ok=True)
        shutil.rmtree(last, ignore_errors=True)
        if html.exists():
            html.rename(last)
        built.rename(html)
        stamp.write_text(digest)
        shutil.rmtree(last, ignore_errors=True)
        shutil.rmtree(project.private("staging"))
    return html


def build_aside(project: Project) -> Path:
    """Build and check the site in a folder that the next run clears; raises `SiteError`."""
    aside = project.private("staging") / "site"
    command = [sys.executable, "-c", BUILD, "build", project.root, "--path-output", aside, *OPTIONS]
    environment = private_environment(project)
    environment["SUBLIMINAL_PROFILE"] = project.profile
    environment["SOURCE_DATE_EPOCH"] = str(edition(project.root).seconds)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        errors = COLOR.sub("", done.stderr).strip()
        raise SiteError(f"The pages of profile {project.profile!r} did not build:\n{errors}")
    html = aside / "_build" / "html"
    faults = problems(html)
    if faults:
        raise SiteError("\n".join(["The pages were built, but:", *faults]))
    return html


def inputs_digest(project: Project) -> str:
    """Digest of every file that the site is made of."""
    executed = f"_build/executed/{project.profile}/*"
    sources = file_digests(project.root, [*SOURCES, executed])
    code = file_digests(LIBRARY, CODE)
    return store.digest(project.profile, sources, code, edition(project.root))


def file_digests(root: Path, patterns: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Digests of files below `root` by name, less hidden, compiled and a file manager's ones."""
    digests = {}
    for pattern in patterns:
        for path in root.glob(pattern):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not SKIPPED.search(name):
                digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


# ---------------------------------------------------------------- the Sphinx extension


def setup(app) -> None:
    """Register with Sphinx."""
    profile = os.environ.get("SUBLIMINAL_PROFILE", "laptop")
    app.add_config_value("executed_profile", profile, "env")
    app.add_config_value("book_repository", "", "html")  # its address; empty: no link leads there
    app.add_config_value("book_pages_branch", "gh-pages", "html")  # where the site is published
    app.add_config_value("book_site", "", "html")  # the address of the published site
    app.add_directive("cite-box", CiteDirective)
    app.add_directive("contents-lists", ContentsDirective)
    app.add_directive("explorer", ExplorerDirective)
    app.add_directive("schematic", SchematicDirective)
    app.add_directive("scorecard", ScorecardDirective)
    app.book_sections = []  # what the search finds, filled page by page
    app.connect("source-read", swap)
    app.connect("doctree-read", note_glue)
    app.connect("doctree-read", name_cells)
    app.connect("doctree-resolved", link_terms)
    app.connect("doctree-resolved", fill_contents)
    app.connect("html-page-context", note_sections)
    app.connect("html-page-context", furnish)
    app.connect("html-page-context", mend)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", finish, priority=100)  # before the toc's own index.html


def project_of(app) -> Project:
    """The project and profile that a Sphinx application builds."""
    return Project(Path(app.srcdir), app.config.executed_profile)


def note_copy(app, docname: str) -> Path | None:
    """The executed copy of a notebook's page, on which the page then depends; None for prose."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return None
    copy = project_of(app).executed(path.stem)
    app.env.note_dependency(copy)
    return copy


def swap(app, docname: str, source: list[str]) -> None:
    """Put the executed copy in the place of a notebook's source (Sphinx event `source-read`)."""
    copy = note_copy(app, docname)
    if copy is None:
        return
    fault = "no executed copy"
    if copy.exists():
        text = copy.read_text(encoding="utf8")
        notebook = json.loads(text)
        fault = failure(notebook)
        source[0] = with_staleness(project_of(app), copy.stem, notebook)
    if fault:
        cure = f"run `make book PROFILE={app.config.executed_profile}`"
        log.warning("%s at %s: %s", fault, copy, cure, extra={"location": docname})


def with_staleness(project: Project, name: str, notebook: dict) -> str:
    """Text of an executed copy, with a note at its end where its reference run is of other code."""
    inputs = notebook.get("metadata", {}).get("press", {}).get("inputs", {})
    sentence = staleness(project, name, inputs)
    if sentence:
        note = f":::{{note}}\n{sentence}\n:::"
        cell = {"cell_type": "markdown", "id": "reference-note", "metadata": {}, "source": note}
        notebook["cells"].append(cell)
    narrow(notebook)
    return json.dumps(notebook)


def failure(notebook: dict) -> str:
    """Which cell of an executed copy raised an error, in words; empty where none did."""
    for number, cell in enumerate(notebook["cells"], start=1):
        kinds = [output["output_type"] for output in cell.get("outputs", [])]
        if "error" in kinds or "papermill-error-cell-tag" in tags(cell):
            return f"cell {number} raised an error in the copy"
    return ""


def note_glue(app, doctree) -> None:
    """Make a page depend on the copies that it quotes (Sphinx event `doctree-read`)."""
    for node in doctree.findall():
        if type(node).__name__ == "PendingGlueReference":
            note_copy(app, node["refdoc"])


def name_cells(app, doctree) -> None:
    """Give each code cell of a notebook's page a place to link to (Sphinx event `doctree-read`)."""
    copy = note_copy(app, app.env.docname)
    if copy is None or not copy.exists():
        return
    from press.scoreboard import cell_anchor  # 2 s of imports

    cells = store.read_json(copy)["cells"]
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            cell = cells[node["cell_index"]]
            node["ids"].append(cell_anchor(cell["id"]))


def whole_percents(body: str) -> str:
    """A page on which no line ends between a number and its percent sign; code stays as it is."""
    parts = VERBATIM.split(body)
    parts[::2] = [PERCENT.sub("\u00a0%", part) for part in parts[::2]]
    return "".join(parts)


def mend(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Mend what other extensions get wrong for screen readers: a withdrawn role, repeated ids."""
    body = context.get("body", "")
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    body = re.sub(r"(Solution to)(<a [^>]*>) ", r"\1 \2", body)  # the line stands below words only
    body = whole_percents(body)
    context["body"] = re.sub(r' id="(exercise|solution|proof)-content"', "", body)


class ExplorerDirective(Directive):
    """Show an explorer, `{explorer} Laboratory`, or a notebook's, `{explorer} noise 04_inputs`."""

    required_arguments, optional_arguments = 1, 1

    def run(self) -> list[nodes.Node]:
        """HTML of the explorer; an unknown name is an error."""
        show = self.quoted if len(self.arguments) == 2 else self.made
        html = show(*self.arguments)
        return [nodes.raw("", html, format="html")]

    def quoted(self, module: str, name: str) -> str:
        """The notebook's explorer of this module, as its executed copy holds it."""
        project = project_of(self.state.document.settings.env.app)
        notebook = store.read_json(project.executed(name)) or {"cells": []}
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                html = "".join(output.get("data", {}).get("text/html", []))
                if module in NAMED.findall(html):
                    return html
        cure = "run it, or name one that shows it"
        raise self.error(f"no explorer {module!r} in the executed notebook {name!r}: {cure}")

    def made(self, name: str) -> str:
        """An explorer that needs no data of a notebook."""
        from sublearn.explorers import widgets  # 2 s of imports

        explorers = {
            "Laboratory": widgets.Laboratory,
            "LaboratoryRuns": widgets.laboratory_runs,
            "Plane": widgets.Plane,
            "Step": widgets.Step,
        }
        if name not in explorers:
            raise self.error(f"no explorer is called {name!r}; there are {', '.join(explorers)}")
        return explorers[name]().html()


class SchematicDirective(Directive):
    """Show the experiment in three panels: still, or `{schematic} moving`, played once.

    Any other word names a sketch of `book/diagrams.yml`.
    """

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """HTML of the figure."""
        name = self.arguments[0] if self.arguments else ""
        measured = name in ("", "moving")
        html = figure(moving=name == "moving") if measured else self.sketched(name)
        return [nodes.raw("", html, format="html")]

    def sketched(self, name: str) -> str:
        """A sketch, which is drawn anew when the file changes."""
        environment = self.state.document.settings.env
        path = project_of(environment.app).root / "book" / "diagrams.yml"
        environment.note_dependency(path)
        try:
            return sketch(name, yaml.safe_load(path.read_text(encoding="utf8")))
        except ValueError as error:
            raise self.error(str(error)) from None


class ScorecardDirective(Directive):
    """Show the scorecard, or with `contradictions` what the sources say against each other."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """HTML of the scorecard, which depends on all results."""
        from press import scoreboard  # 2 s of imports

        environment = self.state.document.settings.env
        project = project_of(environment.app)
        for path in sorted(folder_of(project).glob("*.csv")):
            environment.note_dependency(path)
        environment.note_reread()
        show = scoreboard.contradictions if self.arguments else scoreboard.page
        return [nodes.raw("", show(project), format="html")]


def add_script(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Add style and script to a page that holds explorers (Sphinx event `html-page-context`)."""
    names = sorted(set(NAMED.findall(context.get("body", ""))))
    if names:
        from sublearn.explorers import base  # 2 s of imports

        context["metatags"] = context.get("metatags", "") + f"\n<style>{base.CSS}</style>"
        context["body"] += f"\n<script>{base.page_script(tuple(names))}</script>"


def finish(app, exception) -> None:
    """Add what MathJax needs, downloads, the search's sections, and an index page that leads on.

    The theme brings its icons twice: as fonts, in its style sheet, and as a script of 1.5 MB, which
    is dropped.
    """
    if exception is not None or app.builder.name != "html":
        return
    add_files(app)
    static = Path(app.outdir, "_static")
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    packaged = Path(package.origin).parent / "static"
    for pattern in MATHJAX:
        for source in packaged.glob(pattern):
            target = static / source.relative_to(packaged)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    (static / "scripts" / "fontawesome.js").write_text("// The icons come from fonts.\n")
    page = f"{app.config.root_doc}.html"
    text = REDIRECT.format(title=app.config.html_title, page=page)
    Path(app.outdir, "index.html").write_text(text, encoding="utf8")


def add_files(app) -> None:
    """Put beside the pages what a reader may take along, and let the figures follow the theme."""
    from press import social  # draws

    html = Path(app.outdir)
    project = project_of(app)
    put_downloads(project, html)
    this = edition(project.root)
    cell = first_cell(this, app.config.book_site)
    for path in sorted((html / "_sources/notebooks").glob("*.ipynb")):
        text = alone(path.read_text(encoding="utf8"), cell)
        path.write_text(text, encoding="utf8")
    for path in sorted((html / "_images").glob("*.svg")):
        svg = themed(path.read_text(encoding="utf8"))
        path.write_text(svg, encoding="utf8")
    social.draw(html / "_static/social.png")
    write_sections(app)
    staging = project.private("staging") / "wheel"
    shutil.rmtree(staging, ignore_errors=True)
    wheel(project.root, staging, html / "downloads")


# ---------------------------------------------------------------- the command line


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m press", description="Run notebooks, make the book.")
    add = parser.add_argument
    commands = (
        "run all and build the site, only run, say what changed since each notebook ran, make the "
        "reference results that git keeps, compare two folders of results, or print the book"
    )
    choices = ("book", "run", "why", "reference", "diff", "pdf")
    add("command", choices=choices, help=commands)
    names = "these notebooks only; 02 is enough (diff: the two folders)"
    add("names", nargs="*", metavar="NAME", help=names)
    add("--only", nargs="+", default=[], metavar="NAME", help="the same as NAME")
    add("--profile", default="laptop", help="a profile of profiles.yml (default: laptop)")
    add("--jobs", type=int, default=1, metavar="N", help="notebooks at a time (default: 1)")
    add("-p", action="append", default=[], type=assignment, metavar="KEY=VALUE", help="a parameter")
    data = "fail where a data set cannot be had, instead of using the embedded digits"
    add("--require-data", action="store_true", help=data)
    return parser.parse_args(arguments)


def assignment(text: str) -> tuple[str, object]:
    """Read `key=value`, the value a Python literal (true and false too); any other is a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in -p models=4")
    if value in ("true", "false"):
        return key, value == "true"
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def check_checkout(folder: Path) -> None:
    """Raise a PressError where `folder` lies in another checkout than this press."""
    for root in (folder, *folder.parents):
        library = root / "lib"
        if (library / "press").is_dir():
            if not library.samefile(LIBRARY):
                cure = f"run `make` in {root} to mend its .venv"
                raise PressError(f"this Python imports {LIBRARY}, not {library}; {cure}")
            return


def dispatch(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; the exit status."""
    check_checkout(Path.cwd())
    if arguments.command == "diff":
        if len(arguments.names) != 2:
            raise PressError(f"diff compares two folders, not {len(arguments.names)}; name both")
        return print_diff(*map(Path, arguments.names))
    making_reference = arguments.command == "reference"
    project = Project(profile=PROFILE if making_reference else arguments.profile)
    request = {
        "only": arguments.names + arguments.only,
        "parameters": dict(arguments.p),
        "require_data": arguments.require_data,
    }
    if arguments.command == "why":
        jobs, _ = plan(project, **request)
        for job in jobs:
            reasons = "; ".join(job.changes)
            print(f"{job.name}  {reasons or 'up to date'}")
            if sentence := staleness(project, job.name, job.inputs):
                print(f"{job.name}  {sentence}")
        return 0
    if not run(project, **request, jobs=max(1, arguments.jobs)):
        return 1
    if making_reference:
        jobs, _ = plan(project, **request)
        for job in jobs:
            print(f"{job.name}  kept in {keep(project, job.name)}")
    from press import scoreboard  # 2 s of imports

    scoreboard.write_csv(project)
    if arguments.command in ("book", "pdf"):
        html = build(project)
        print(f"The book: {html}/index.html")
    if arguments.command == "pdf":
        this = edition(project.root)
        path = print_book(html, html.parent / "subliminal-learning.pdf", this)
        print(f"Printed: {path}")
    return 0


def main() -> int:
    """Run the command line; 0, 1 for a notebook or page that failed, 2 for a wrong request."""
    try:
        return dispatch(parse(sys.argv[1:]))
    except (ValueError, DataCorrupt, SiteError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1 if isinstance(error, SiteError) else 2
    except KeyboardInterrupt:
        print("Stopped; what is finished is kept, and the next run goes on from there.", flush=True)
        os._exit(130)  # ends the kernels; leaving in the ordinary way would wait for their cells
