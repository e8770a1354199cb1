"""How the explorers' scripts are made: sources, bundles, and one script for each page."""

import graphlib
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from sublearn.explorers import base, widgets

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*base.SOURCES.glob("*.js"), *base.SOURCES.glob("*.ts")])
NAMES = ("cuts", "laboratory", "lists", "noise", "partners", "parts", "plane", "results", "step")
OFFLINE = r"npm (error|ERR!) (code E(AI_AGAIN|NOTFOUND|CONN\w+|TIMEDOUT|NOTCACHED)|network)"


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"no {program} found")


# Sources


def test_scripts_are_short_and_say_what_they_are():
    for path in SCRIPTS:
        lines = path.read_text(encoding="utf8").splitlines()
        assert len(lines) <= 300, f"{path.name} has {len(lines)} lines"
        assert lines[0].startswith("// ")
        long = {number: len(line) for number, line in enumerate(lines, start=1) if len(line) > 120}
        assert not long, f"{path.name} has lines of more than 120 characters: {long}"


@needs("node")
def test_every_script_is_a_module_that_loads_alone():
    """Also outside a browser: none touches the page before it is asked to draw."""
    modules = [path for path in base.SOURCES.glob("*.js") if path.stem != "worker"]  # a program
    text = "\n".join(f"await import({json.dumps(path.as_uri())});" for path in modules)
    subprocess.run(["node", "--input-type=module", "--eval", text], check=True, timeout=60)


def test_no_script_imports_itself_through_others():
    graph = {}
    for path in SCRIPTS:
        text = path.read_text(encoding="utf8")
        graph[path.stem] = re.findall(r'from "\./(\w+)\.js";$', text, re.MULTILINE)
    assert "controls" in graph["laboratory"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


# Bundles


def test_the_bundles_are_those_of_the_sources():
    """`make bundle` wrote the digests of all sources and bundles after its last step."""
    files = {*base.SOURCES.glob("*.*"), *base.BUNDLES.glob("*.js"), *base.BUNDLES.glob("*.css")}
    stored = {}
    for line in (base.BUNDLES / "SHA256SUMS").read_text(encoding="utf8").splitlines():
        digest, name = line.split()
        stored[name] = digest
    actual = {}
    for path in files:
        name = path.relative_to(base.SOURCES).as_posix()
        actual[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    changed = {name for name, _ in stored.items() ^ actual.items()}
    assert not changed, f"run `make bundle`: {sorted(changed)} changed since"


@needs("make")
@needs("npx")
def test_the_bundles_are_made_again_byte_by_byte(tmp_path):
    sources = tmp_path / "js"
    shutil.copytree(base.SOURCES, sources)
    for path in (sources / "dist").iterdir():
        path.write_text("", encoding="utf8")
    command = ["make", "--silent", "-C", str(ROOT), "bundle", f"JS={sources}"]
    environment = {**os.environ, "npm_config_fetch_retries": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode and re.search(OFFLINE, done.stderr):
        pytest.skip("no network: esbuild and AssemblyScript come from the npm registry")
    assert done.returncode == 0, done.stderr
    bundles = sorted(path.name for path in base.BUNDLES.iterdir())
    assert bundles == sorted(path.name for path in (sources / "dist").iterdir())
    for name in bundles:
        assert (sources / "dist" / name).read_bytes() == (base.BUNDLES / name).read_bytes(), name


def test_a_page_gets_the_explorers_that_it_shows_and_no_import():
    text = base.page_script(("plane", "results"))
    assert set(re.findall(r"explorers\.(\w+)=\{", text)) == {"plane", "results"}
    assert not re.search(r"^(import|export)\b|[;}](import|export)[ {]", text, re.MULTILINE)


def test_a_script_cannot_end_its_element():
    assert "</script" not in base.page_script(NAMES).lower()


@needs("node")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_gets_a_module(tmp_path, name):
    module = tmp_path / "widget.mjs"
    module.write_text(base.widget_script(name), encoding="utf8")
    text = f"import view from {json.dumps(module.as_uri())}; console.log(typeof view.render);"
    command = ["node", "--input-type=module", "--eval", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "function"


# Explorers


def test_a_subclass_shares_its_traits_and_gets_its_script():
    plane = widgets.Plane()
    assert set(plane.trait_names(sync=True)) >= {"hidden", "heads", "logits", "result"}
    state = plane.get_state()
    assert (state["_esm"], state["_css"]) == (base.widget_script("plane"), base.CSS)


def test_a_page_gets_the_traits_of_the_subclass_and_no_others():
    html = widgets.Step().html()
    state = json.loads(re.search(r'json">(.*?)</script>', html)[1])
    assert list(state) == ["result", "start", "step", "student_head", "teacher_head"]


def test_the_laboratory_is_small():
    """All that a page carries for it: scripts, style and data, less the still picture."""
    laboratory = widgets.Laboratory()
    state = laboratory.html().replace(laboratory.still(), "")
    script = base.page_script(("laboratory",))
    assert len(script) + len(base.CSS) + len(state) <= 115_000


def test_a_notebook_gets_widget_and_page_from_one_object():
    laboratory = widgets.Laboratory(aux_dim=5)
    formats, _ = laboratory._repr_mimebundle_()
    types = {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert set(formats) == types
    html = formats["text/html"]
    assert json.loads(re.search(r'json">(.*?)</script>', html)[1])["aux_dim"] == 5
    assert html == widgets.Laboratory(aux_dim=5).html()  # a second run writes the same file


def test_a_state_cannot_end_its_element():
    table = pd.DataFrame({"arm": ["</script><b>"] * 2, "model": [0, 1], "accuracy": [0.1, 0.2]})
    results = widgets.Results(table, factors=["arm"], units=["model"])
    assert "</script><b>" not in results.html()


def test_a_page_from_a_file_comes_to_life(show):
    """The laboratory trains in a worker beside another explorer; nothing is asked of a server."""
    laboratory = widgets.Laboratory(width=32, steps=300, pace="full")
    page = show(laboratory, widgets.laboratory_runs())
    page.get_by_role("button", name="Play", exact=True).click()
    node = page.locator('[data-explorer="laboratory"]')
    ready = "node => node.model.get('result').points"
    page.wait_for_function(ready, arg=node.element_handle())
    assert node.evaluate("node => node.model.get('result').worker")


def test_controls_of_several_explorers_do_not_meet(show):
    """Each has a script of its own, but ids and the names of radio groups are those of the page."""
    explorers = [widgets.Laboratory(), widgets.Plane(), widgets.Step(), widgets.laboratory_runs()]
    page = show(*explorers)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    groups = page.evaluate(
        "[...document.querySelectorAll('fieldset:has([type=radio])')].map(field => "
        "[...field.querySelectorAll('[type=radio]')].filter(box => box.checked).length)"
    )
    assert len(groups) >= 4
    assert set(groups) == {1}
