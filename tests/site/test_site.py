"""The site: how it is made, and how the whole smoke book behaves in a browser without a network."""

import json
import re
import shutil
import sysconfig
import threading
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import axe_core_python
import pytest
from pygments.formatters import HtmlFormatter

from press import site as press_site
from press.checks import problems
from press.runner import Project, profile_lock
from visit import Visit

ROOT = Path(__file__).resolve().parents[2]
AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
# What axe-core need not see, since its time grows fast with the size of a page: the inside of formulas, which
# MathJax makes, and code cells that only repeat kinds of tokens seen in cells before them.
LIGHTEN = """() => {
  const seen = new Set();
  document.querySelectorAll("mjx-container > *").forEach(part => part.remove());
  document.querySelectorAll(".highlight pre").forEach(block => {
    const kinds = [...block.querySelectorAll("span")].map(token => token.className);
    if (kinds.every(kind => seen.has(kind))) block.textContent = "code";
    kinds.forEach(kind => seen.add(kind));
  });
}"""
# Half of the 2 x 2 x 2 combinations, chosen such that every two of the three factors meet in every way.
# axe-core, which takes longer than all the rest, looks at the pages as they come over http: the two kinds are the same.
VISITS = [
    ("http", 1280, "light"),
    ("http", 360, "dark"),
    ("file", 1280, "dark"),
    ("file", 360, "light"),
]


# How it is made


def small_site(folder, body, extra=""):
    (folder / "picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "two.html").write_text("<html><body><h1 id='top'>Two</h1></body></html>")
    (folder / "one.html").write_text(f"<html><head>{extra}</head><body>{body}</body></html>")
    return folder


def test_a_site_in_order_has_no_problems(tmp_path):
    body = """<h2 id="here">One</h2><a href="two.html#top">two</a><a href="#here">up</a>
        <a href="https://example.org">a paper</a><a href="mailto:a@example.org">mail</a>
        <img src="picture.svg" alt="A line that rises from left to right">"""
    assert problems(small_site(tmp_path, body)) == []


@pytest.mark.parametrize(
    ("fragment", "good"),
    [
        ("at=plane", True),
        ("laboratory.loss=kl&plane.logits=1&at=plane", True),
        ("laboratory.loss=kl&at=noise", False),
        ("loss=kl", False),
        ("plane", False),
    ],
)
def test_a_link_may_set_the_explorers_that_a_page_shows(tmp_path, fragment, good):
    body = f"""<a href="#{fragment.replace("&", "&amp;")}">set</a>
        <div class="explorer" data-explorer="laboratory"></div><div class="explorer" data-explorer="plane"></div>"""
    found = problems(small_site(tmp_path, body))
    assert len(found) == (not good)


@pytest.mark.parametrize(
    ("body", "extra", "fault"),
    [
        ("<a href='three.html'>three</a>", "", "leads to no file"),
        ("<a href='two.html#end'>two</a>", "", "no such place"),
        ("<a href='#end'>end</a>", "", "no such place"),
        ("<img src='picture.svg'>", "", "no alternative text"),
        (
            "<img src='picture.svg' alt='_images/picture.svg'>",
            "",
            "file name for its alternative text",
        ),
        ("<img src='picture.svg' alt='picture'>", "", "file name for its alternative text"),
        (
            "<img src='https://example.org/a.png' alt='A cat on a mat'>",
            "",
            "loaded from an outside host",
        ),
        ("", "<script src='//example.org/a.js'></script>", "loaded from an outside host"),
        ("", "<link rel='preconnect' href='https://example.org'>", "loaded from an outside host"),
        ("", "<link rel='stylesheet' href='gone.css'>", "does not exist"),
        ("x" * 1_000_001, "", "at most 1,000,000"),
    ],
)
def test_each_fault_of_a_site_is_named(tmp_path, body, extra, fault):
    (found,) = problems(small_site(tmp_path, body, extra))
    assert found.startswith("one.html: ")
    assert fault in found


def test_an_empty_site_is_a_problem(tmp_path):
    assert "build the site first" in problems(tmp_path)[0]


@pytest.fixture
def project(tmp_path):
    """A project with one notebook and its executed copy, and of a Sphinx application what the extension uses."""
    copy = tmp_path / "_build" / "executed" / "laptop" / "01_a.ipynb"
    copy.parent.mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    for name in ("CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks" / "01_a.ipynb").write_text('{"cells": []}')
    cell = {
        "cell_type": "code",
        "metadata": {},
        "source": "",
        "outputs": [{"output_type": "stream", "text": "42"}],
    }
    copy.write_text(json.dumps({"cells": [{"cell_type": "markdown", "metadata": {}}, cell]}))
    suffix = {"notebooks/01_a": ".ipynb", "book/intro": ".md"}
    noted = []
    env = SimpleNamespace(
        doc2path=lambda name: tmp_path / (name + suffix[name]), note_dependency=noted.append
    )
    app = SimpleNamespace(
        srcdir=tmp_path, env=env, config=SimpleNamespace(executed_profile="laptop")
    )
    return SimpleNamespace(root=tmp_path, copy=copy, app=app, noted=noted)


def swapped(project, page="notebooks/01_a", text="the source"):
    source = [text]
    press_site.swap(project.app, page, source)
    return source[0]


def test_the_executed_copy_takes_the_place_of_the_source(project):
    assert "42" in swapped(project)
    assert project.noted == [project.copy]


def test_no_line_ends_before_a_percent_sign_but_in_code():
    body = "<p>a 95 % interval</p><pre>'95 % of'</pre><code>7 % 2</code> and 5 %."
    assert press_site.whole_percents(body) == (
        "<p>a 95\u00a0% interval</p><pre>'95 % of'</pre><code>7 % 2</code> and 5\u00a0%."
    )


def test_a_page_of_prose_is_left_alone(project):
    assert swapped(project, "book/intro") == "the source"
    assert project.noted == []


@pytest.mark.parametrize("profile", ["laptop", "smoke"])
def test_a_missing_copy_is_a_warning_that_names_the_command(project, caplog, profile):
    project.app.config.executed_profile = profile
    project.copy.unlink()
    assert swapped(project) == "the source"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"make book PROFILE={profile}" in record.getMessage()


@pytest.mark.parametrize("tagged", [True, False])
def test_a_copy_with_an_error_is_refused(project, caplog, tagged):
    notebook = json.loads(project.copy.read_text())
    if tagged:
        notebook["cells"][0]["metadata"] = {"tags": ["papermill-error-cell-tag"]}
    else:
        notebook["cells"][1]["outputs"] = [{"output_type": "error"}]
    project.copy.write_text(json.dumps(notebook))
    swapped(project)
    assert f"cell {1 if tagged else 2} raised" in caplog.text


def test_a_page_depends_on_the_notebooks_it_quotes(project):
    class PendingGlueReference(dict):
        """Stands in for the node of myst-nb, which is known by its class's name."""

    quotes = [PendingGlueReference(refdoc=name) for name in ("notebooks/01_a", "book/intro")]
    doctree = SimpleNamespace(findall=lambda: [*quotes, object()])
    press_site.note_glue(project.app, doctree)
    assert project.noted == [project.copy]


@pytest.fixture
def builds(project, monkeypatch):
    """Count the builds; each writes a page instead of running Sphinx, or fails where `builds.fails` says so."""
    state = SimpleNamespace(count=0, fails=False, page="<p>One</p>")

    other = press_site.subprocess.run

    def run(command, **options):
        if "--path-output" not in command:  # git, asked for the edition
            return other(command, **options)
        state.count += 1
        html = Path(command[command.index("--path-output") + 1]) / "_build" / "html"
        html.mkdir(parents=True)
        (html / "index.html").write_text(f"{state.page}<p>{state.count}</p>")
        return SimpleNamespace(returncode=int(state.fails), stderr="a.md:3: WARNING: no such term")

    monkeypatch.setattr(press_site.subprocess, "run", run)
    return state


def test_a_second_build_does_nothing(project, builds):
    assert press_site.build(Project(project.root)) == project.root / "_build" / "html"
    press_site.build(Project(project.root))
    assert builds.count == 1


CHANGES = ["_build/executed/laptop/01_a.ipynb", "notebooks/01_a.ipynb", "book/new.md", "_toc.yml"]


@pytest.mark.parametrize("changed", CHANGES)
def test_a_change_of_any_input_builds_anew(project, builds, changed):
    press_site.build(Project(project.root))
    path = project.root / changed
    path.parent.mkdir(exist_ok=True)
    path.write_text(path.read_text() + " " if path.exists() else "new")
    press_site.build(Project(project.root))
    assert builds.count == 2


STRAY = [".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "._01_a.ipynb", "01_a.ipynb~"]


@pytest.mark.parametrize("name", STRAY)
def test_files_of_a_file_manager_build_nothing(project, builds, name):
    press_site.build(Project(project.root))
    (project.root / "book").mkdir()
    for folder in ("book", "notebooks", "_build/executed/laptop"):
        (project.root / folder / name).write_text("")
    press_site.build(Project(project.root))
    assert builds.count == 1


def test_profiles_have_sites_of_their_own(project, builds):
    laptop, smoke = (
        press_site.build(Project(project.root, profile)) for profile in ("laptop", "smoke")
    )
    assert smoke == project.root / "_build" / "smoke" / "html"
    assert (laptop / "index.html").exists()
    press_site.build(Project(project.root))
    assert builds.count == 2


def test_a_failed_build_is_told_and_tried_again(project, builds):
    builds.fails = True
    with pytest.raises(press_site.SiteError, match="no such term"):
        press_site.build(Project(project.root))
    builds.fails = False
    press_site.build(Project(project.root))
    assert builds.count == 2


def test_a_faulty_page_fails_the_build(project, builds):
    builds.page = "<a href='gone.html'>gone</a>"
    with pytest.raises(press_site.SiteError, match=r"gone\.html leads to no file"):
        press_site.build(Project(project.root))
    assert not (project.root / "_build" / "site.digest").exists()


def test_a_good_site_stays_until_the_next_one_is_good(project, builds):
    html = press_site.build(Project(project.root))
    (html / "gone.html").write_text("of the first build")
    project.copy.write_text('{"cells": []}')
    builds.page = "<a href='missing.html'>missing</a>"
    with pytest.raises(press_site.SiteError):
        press_site.build(Project(project.root))
    assert (html / "index.html").read_text() == "<p>One</p><p>1</p>"
    builds.page = "<p>One</p>"
    press_site.build(Project(project.root))
    assert [path.name for path in html.iterdir()] == ["index.html"]
    assert (html / "index.html").read_text() == "<p>One</p><p>3</p>"


def test_a_build_killed_between_two_sites_leaves_the_good_one(project, builds, monkeypatch):
    html = press_site.build(Project(project.root))
    (project.root / "_toc.yml").write_text("new")
    rename = Path.rename

    def killed(path, target):
        if target == html:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        press_site.build(Project(project.root))
    assert not html.exists()
    monkeypatch.undo()
    monkeypatch.setattr(press_site, "build_aside", lambda project: pytest.fail("killed again"))
    with pytest.raises(pytest.fail.Exception):
        press_site.build(Project(project.root))
    assert (html / "index.html").exists()


def test_only_one_press_builds_a_site_at_a_time(project, builds, capsys):
    done = threading.Event()

    def build():
        press_site.build(Project(project.root))
        done.set()

    with profile_lock(Project(project.root)):
        threading.Thread(target=build).start()
        assert not done.wait(0.5)
    assert done.wait(60)
    assert "Another build of profile 'laptop' is at work: waiting" in capsys.readouterr().out


THEMES = [
    "pydata_sphinx_theme/theme/pydata_sphinx_theme/static/styles/theme.css",
    "pydata_sphinx_theme/theme/pydata_sphinx_theme/static/styles/pydata-sphinx-theme.css",
    "sphinx_book_theme/theme/sphinx_book_theme/static/styles/sphinx-book-theme.css",
    "myst_nb/static/mystnb.css",
]
PIECES = """<div class="bd-content"><article class="bd-article">
<h1>Heading</h1><h2>Smaller</h2><p>Text <a class="reference internal" href="#">link</a> <code>code</code></p>
<table class="table dataframe"><caption>Caption</caption><thead><tr><th>head</th></tr></thead>
<tbody><tr><td>even</td></tr><tr><td>odd</td></tr></tbody></table>
<div class="admonition warning"><p class="admonition-title">Title</p><p>Note</p></div>
<div class="cell"><div class="cell_input"><div class="highlight"><pre><span class="k">import</span>
<span class="n">numpy</span> <span class="c1"># why</span></pre></div></div></div></article></div>"""
# Luminance of each piece's text and of what lies behind it.
LUMINANCE = """() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const linear = part => part <= 10 ? part / 3295 : ((part / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = color => {
    const [red, green, blue] = color.map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = element => {
    const color = element ? parts(getComputedStyle(element).backgroundColor) : [255, 255, 255];
    return color.length == 4 && color[3] < 0.5 ? behind(element.parentElement) : color;
  };
  const pieces = document.querySelectorAll("h1, h2, p, a, code, caption, th, td, pre, pre span");
  return [...pieces].map(piece => [piece.outerHTML, luminance(parts(getComputedStyle(piece).color)),
                                   luminance(behind(piece))]);
}"""


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_pages_are_printed_dark_on_light(tmp_path, browser, colors):
    packages = Path(sysconfig.get_path("purelib"))
    sheets = [(packages / theme).as_uri() for theme in THEMES]
    (tmp_path / "code.css").write_text(HtmlFormatter(style="a11y-high-contrast-dark").get_style_defs(
        f'html[data-theme="{colors}"] .highlight') if colors == "dark" else "")  # fmt: skip
    sheets += ["code.css", (ROOT / "book" / "_static" / "custom.css").as_uri()]
    links = "".join(f"<link rel='stylesheet' href='{sheet}'>" for sheet in sheets)
    html = f"<!DOCTYPE html><html data-theme='{colors}'><head>{links}</head><body>{PIECES}</body></html>"
    (tmp_path / "page.html").write_text(html)
    visit = Visit(browser, 800, colors)
    visit.page.emulate_media(media="print", color_scheme=colors)
    visit.page.goto((tmp_path / "page.html").as_uri())
    pieces = visit.page.evaluate(LUMINANCE)
    visit.context.close()
    assert len(pieces) == 15
    for piece, text, sheet in pieces:
        assert sheet > 0.7, piece
        assert (sheet + 0.05) / (text + 0.05) > 4.5, piece


# How it behaves


def names(site):
    return [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))
            if path.relative_to(site).parts[0] in ("book", "notebooks", "search.html", "genindex.html")]  # fmt: skip


def faults(page, *, axe):
    """What is wrong with an open page: maths not typeset, sideways scrolling, what axe-core finds in the article."""
    found = []
    formulas, typeset, wrong = (page.locator(f".bd-article {what}").count() for what in
                                (".math", "mjx-container", "mjx-merror"))  # fmt: skip
    if typeset < formulas or wrong:
        found.append(f"{typeset} of {formulas} formulas are typeset, {wrong} of them with an error")
    if (excess := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
        found.append(f"the page scrolls sideways by {excess} px")
    if axe and page.locator(".bd-article").count():
        page.evaluate(LIGHTEN)
        page.evaluate(AXE)
        results = page.evaluate(
            "axe.run('.bd-article', {preload: false, resultTypes: ['violations']})"
        )
        found += [
            f"axe {r['id']}: {r['help']}: {r['nodes'][0]['html'][:200]}"
            for r in results["violations"]
        ]
    return found


@pytest.mark.book
@pytest.mark.parametrize(("scheme", "width", "colors"), VISITS)
def test_every_page_is_in_order(site, server, browser, scheme, width, colors):
    found, visit = [], Visit(browser, width, colors)
    for name in names(site):
        page = visit.open(f"{server}/{name}" if scheme == "http" else (site / name).as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == colors
        found += [f"{name}: {fault}" for fault in faults(page, axe=scheme == "http") + visit.faults]
        visit.faults.clear()
    visit.context.close()
    assert not found, "\n".join(found)


@pytest.mark.book
def test_visits_cross_every_two_factors():
    for first, second in ((0, 1), (0, 2), (1, 2)):
        levels = [{visit[factor] for visit in VISITS} for factor in (first, second)]
        assert {(visit[first], visit[second]) for visit in VISITS} == set(product(*levels))


@pytest.mark.book
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_first_page_leads_into_the_book(site, server, browser, scheme):
    visit = Visit(browser, 1280, "light")
    visit.page.goto(f"{server}/" if scheme == "http" else (site / "index.html").as_uri())
    visit.page.wait_for_url("**/book/intro.html")
    assert visit.page.locator(".bd-article h1").count() == 1
    assert visit.faults == []


@pytest.mark.book
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_a_word_offline(site, server, browser, scheme):
    visit = Visit(browser, 1280, "light")
    base = server if scheme == "http" else site.as_uri()
    page = visit.open(f"{base}/search.html?q=derangement")
    hits = page.locator("#search-results li a")
    hits.first.wait_for()
    addresses = hits.evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert all("#" in address for address in addresses)  # sections, not pages
    assert any("glossary" in address for address in addresses)
    assert "derangement" in page.locator("#search-results mark").first.inner_text().lower()
    page.wait_for_load_state("networkidle")
    assert visit.faults == []


@pytest.mark.book
def test_every_built_page_passes_the_checks(site):
    assert problems(site) == []


@pytest.mark.book
def test_each_chapter_gives_its_clean_notebook(site):
    sources = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert sources
    for source in sources:
        given = json.loads((site / "_sources" / "notebooks" / source.name).read_text())
        assert given["cells"].pop(1)["id"] == "install"  # so that it runs alone
        assert given == json.loads(source.read_text())
        assert (
            f'href="../_sources/notebooks/{source.name}"'
            in (site / "notebooks" / f"{source.stem}.html").read_text()
        )


@pytest.mark.book
def test_every_chapter_shows_outputs_and_numbered_figures(site):
    for page in (site / "notebooks").glob("*.html"):
        text = page.read_text()
        assert 'class="caption-number"' in text, f"{page.name} shows no numbered figure"
        assert "cell_output" in text


@pytest.mark.book
def test_no_page_shows_the_address_of_an_object(site):
    """A figure's cell that ends in a call shows what it returns, such as <Legend at 0x7f...>: end it with `show`."""
    found = {
        page.name: re.findall(r"[\w.]+ at 0x[0-9a-f]+", page.read_text())
        for page in site.rglob("*.html")
    }
    assert not any(found.values()), {
        name: addresses for name, addresses in found.items() if addresses
    }
