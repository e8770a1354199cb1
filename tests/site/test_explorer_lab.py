"""An explorer in JupyterLab with a live kernel: Python reads what the reader did, and the browser follows Python."""

import json
import re
import subprocess
import sys
import time

import pytest

CELLS = (
    "from sublearn.explorers.widgets import Plane\nplane = Plane()\nplane",
    "print('angle', plane.result['angle'], plane.hidden[1])",
    "plane.logits = 2",
    "from ipywidgets import IntSlider, interact, jslink\n"
    "slider = IntSlider(2, 1, 2, description='logits')\n"
    "jslink((slider, 'value'), (plane, 'logits'))\nslider",
    "interact(lambda tilt: plane.set_trait('hidden', [[1.2, -0.5], [tilt, 1.0]]), tilt=(-1.0, 1.0, 0.5));",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on a notebook of its own; the address of that notebook."""
    tmp_path = tmp_path_factory.mktemp("lab")
    bare = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [bare | {"id": f"c{place}", "source": text} for place, text in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "live.ipynb").write_text(json.dumps(notebook))
    options = ["--no-browser", "--allow-root", "--IdentityProvider.token=t", "--ServerApp.port=0"]
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={tmp_path}", *options]
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        for _ in range(240):
            if found := re.search(r"http://(?:127\.0\.0\.1|localhost):(\d+)/lab", log.read_text()):
                break
            time.sleep(0.25)
        assert found, log.read_text()[-2000:]
        yield f"http://127.0.0.1:{found[1]}/lab/tree/live.ipynb?token=t"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def notebook(lab, browser):
    """The notebook open in a browser, its first cell run; what it asked of other hosts fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1400})
    page = context.new_page()
    outside = []
    context.route(lambda address: "127.0.0.1" not in address and address.startswith("http"),
                  lambda route: (outside.append(route.request.url), route.abort()))  # fmt: skip
    page.goto(lab)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=90_000)
    run(page, 0)
    page.locator(".explorer[data-live]").wait_for(timeout=90_000)
    yield page
    context.close()
    assert not [
        address for address in outside if "pypi" not in address and "jupyter.org" not in address
    ], outside


def run(page, cell):
    page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")


def checked(page, name):
    """Wait until the plane's switch `name` is on."""
    box = page.locator(".explorer[data-live]").get_by_role("radio", name=name)
    page.wait_for_function("box => box.checked", arg=box.element_handle(), timeout=30_000)


def test_python_reads_what_was_dragged_and_the_browser_follows(notebook):
    plane = notebook.locator(".explorer[data-live]")
    plane.get_by_role("slider", name="Column 1 of W1, hidden unit 1").press("ArrowUp")
    run(notebook, 1)
    printed = (
        notebook.locator(".jp-Cell")
        .nth(1)
        .locator(".jp-OutputArea-output pre")
        .filter(has_text="angle")
    )
    printed.wait_for(timeout=30_000)
    angle, row = re.match(r"angle (\S+) (\[.*\])", printed.inner_text()).groups()
    assert json.loads(row)[0] == pytest.approx(0.45)
    assert f"{float(angle):.1f}°" in plane.inner_text()
    run(notebook, 2)
    checked(notebook, "two")
    assert "0.0°" in plane.inner_text()


def test_other_widgets_can_be_linked_to_an_explorer(notebook):
    run(notebook, 3)
    checked(notebook, "two")
    linked = notebook.locator(".jp-Cell").nth(3).locator(".widget-slider [role=slider]")
    linked.press("ArrowLeft")
    checked(notebook, "one")
    run(notebook, 4)
    asked = notebook.locator(".jp-Cell").nth(4).locator(".widget-slider [role=slider]")
    asked.wait_for(timeout=30_000)
    asked.press("ArrowRight")
    column = notebook.locator(".explorer[data-live]").get_by_role(
        "slider", name="Column 1 of W1, hidden unit 1"
    )
    notebook.wait_for_function(
        "bar => bar.getAttribute('aria-valuetext').includes('0.50 up')",
        arg=column.element_handle(),
        timeout=30_000,
    )
