"""The explorers on the pages of the smoke book, in a browser without a network."""

import base64
import gzip
from pathlib import Path

import axe_core_python
import numpy as np
import pandas as pd
import pytest
import twin

from sublearn import stats
from sublearn.explorers import widgets
from sublearn.nets.settings import INPUTS
from visit import Visit

AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
PAGES = {
    "laboratory": "book/intro.html",
    "plane": "book/interactivity.html",
    "step": "book/interactivity.html",
    "results": "notebooks/02_mnist_replication.html",
    "noise": "notebooks/04_inputs.html",
    "parts": "notebooks/06_heads.html",
    "partners": "notebooks/09_token_entanglement.html",
    "cuts": "notebooks/10_geometry_and_training.html",
    "lists": "notebooks/11_owls_through_numbers.html",
}
pytestmark = pytest.mark.book


class Shown:
    """One explorer on a page: its element, its model, and the faults of the visit."""

    def __init__(self, visit, address, module):
        self.visit, self.page = visit, visit.page
        self.page.goto(address, wait_until="domcontentloaded")
        self.node = self.page.locator(f'.explorer[data-explorer="{module}"]')
        self.node.locator("xpath=self::*[@data-live]").wait_for()

    def get(self, name):
        return self.node.evaluate("(node, name) => node.model.get(name)", name)

    def wait(self, expression, timeout=60_000):
        handle = self.node.element_handle()
        self.page.wait_for_function(f"node => {expression}", arg=handle, timeout=timeout)

    def press(self, name):
        self.node.get_by_role("button", name=name, exact=True).click()

    def trait(self, name):
        return self.node.locator(f'[data-trait="{name}"]')


@pytest.fixture
def show(site, server, browser):
    visits = []

    def opened(module, *, scheme="http", width=1280, colors="light", before="", **options):
        visit = Visit(browser, width, colors, **options)
        visits.append(visit)
        visit.page.add_init_script(before)
        name = PAGES[module]
        return Shown(
            visit, f"{server}/{name}" if scheme == "http" else (site / name).as_uri(), module
        )

    yield opened
    faults = [fault for visit in visits for fault in visit.faults]
    for visit in visits:
        visit.context.close()
    assert not faults


NO_WORKER = """window.Worker = class {
  constructor() { setTimeout(() => this.onerror(new Event("error"))); }
  terminate() {}
};"""


@pytest.mark.parametrize(
    ("scheme", "before"), [("http", ""), ("file", ""), ("file", NO_WORKER)], ids=str
)
def test_numpy_recomputes_the_run_that_a_reader_watched(show, scheme, before):
    lab = show("laboratory", scheme=scheme, before=before)
    lab.node.locator("summary", has_text="More settings").click()
    lab.trait("width").select_option(label="32")
    lab.trait("steps").select_option(label="300")
    lab.trait("pace").select_option(label="full")
    lab.trait("aux_dim").press("ArrowRight")
    lab.press("Play")
    lab.wait("node.model.get('result').points")
    result = lab.get("result")
    assert result["worker"] == (before == "")
    assert result["config"] == twin.REF | {"width": 32, "steps": 300, "aux_dim": 4}
    ours = twin.run(twin.unpack(widgets.packed_digits()), width=32, steps=300, aux_dim=4)
    assert result["points"] == ours["points"]
    assert (result["teacher"], result["ceiling"]) == (ours["teacher"], ours["ceiling"])
    said = f"After 300 steps the student reads {round(100 * result['student'])}%"
    assert said in lab.node.get_by_role("status").inner_text()


def test_every_explorer_of_the_book_comes_to_life_from_a_file(site, browser):
    pages = [
        path
        for path in sorted(site.rglob("*.html"))
        if '<div class="explorer" data' in path.read_text()
    ]
    assert {path.stem for path in pages} >= {
        "intro",
        "interactivity",
        "01_toy_linear_theory",
        "02_mnist_replication",
    }
    visit = Visit(browser, 360, "dark")
    for path in pages:
        visit.page.goto(path.as_uri(), wait_until="domcontentloaded")
        visit.page.wait_for_function("!document.querySelector('.explorer:not([data-live])')")
    visit.context.close()
    assert not visit.faults


CONTROLS = {"aux_dim": "End", "perturbation": "ArrowRight", "lr": "ArrowLeft"}
SELECTS = {"loss": "KL divergence", "width": "128", "steps": "600"}


def test_every_control_of_the_laboratory_changes_the_run(show):
    lab = show("laboratory", width=360)
    for details in lab.node.locator("summary").all():
        details.click()
    settings = lab.node.locator(".explorer-note[aria-hidden]")
    moves = [
        lambda name=name, key=key: lab.trait(name).press(key) for name, key in CONTROLS.items()
    ]
    moves += [
        lambda name=name, text=text: lab.trait(name).select_option(label=text)
        for name, text in SELECTS.items()
    ]
    moves += [
        lambda box=box: box.click()
        for box in [*lab.trait("shared").all(), lab.trait("inputs").last]
    ]
    moves.append(lambda: lab.press("New networks"))
    names = ["aux_dim", "perturbation", "lr", *SELECTS, *["shared"] * 3, "inputs", "seed"]
    for name, move in zip(names, moves, strict=True):
        before = lab.get(name)
        move()
        assert lab.get(name) != before, name
    lab.press("Step")  # the teacher's training
    lab.wait("node.querySelector('.teacher.name')")
    assert settings.inner_text().startswith("Networks 2, step 0 of 600")
    for name, text in (("Step", "step 1 of 600"), ("Restart", "step 0 of 600")):
        lab.press(name)
        lab.wait(
            f"[...node.querySelectorAll('.explorer-note')].some(note => note.textContent.includes('{text}'))"
        )


def test_the_laboratory_plays_and_pauses_by_keyboard(show):
    lab = show("laboratory")
    button = lab.node.get_by_role("button", name="Play", exact=True)
    frames = """() => new Promise(done => { let n = 0; const begun = performance.now();
      const count = () => {
        n += 1;
        const t = performance.now() - begun;
        t < 1500 ? requestAnimationFrame(count) : done(1000 * n / t);
      };
      requestAnimationFrame(count); })"""
    idle = lab.page.evaluate(frames)
    button.press("Space")
    lab.wait("node.querySelector('button').textContent === 'Pause'")
    lab.wait("node.querySelector('.explorer-bars rect')")  # the student has begun
    assert lab.page.evaluate(frames) > 0.5 * idle  # both are 60 on a quiet machine
    lab.node.locator("button").first.press("Space")
    lab.wait("node.querySelector('button').textContent === 'Play'")


FRAMES = """() => new Promise((done) => {
  const end = performance.now() + 1000;
  let count = 0;
  const next = () => (performance.now() < end ? requestAnimationFrame(() => (count++, next())) : done(count));
  next();
})"""


def test_the_page_stays_smooth_while_the_laboratory_runs(show):
    lab = show("laboratory")
    still = lab.page.evaluate(FRAMES)
    lab.press("Play")
    assert lab.page.evaluate(FRAMES) >= still / 2
    assert not lab.get("result")  # the run was still going


@pytest.mark.parametrize("name", sorted(set(PAGES.values())))
def test_a_page_is_light(site, server, browser, name):
    """What a host sends for a page, compressed as hosts do, and what an explorer carries."""
    visit, answers = Visit(browser, 1280, "light"), []
    visit.page.on("response", lambda answer: answers.append(answer))
    visit.page.goto(f"{server}/{name}", wait_until="networkidle")
    assert (
        sum(
            len(gzip.compress(one.body()))
            for one in answers
            if one.request.resource_type != "image"
        )
        <= 1_000_000
    )
    carried = visit.page.locator(".explorer > script").all_text_contents()
    assert 0 < sum(map(len, carried)) <= 450_000  # all pairs of fifty animals and a thousand numbers: 200 kB
    visit.context.close()
    assert not visit.faults


def test_many_seeds_give_a_mean_with_its_interval(show):
    lab = show("laboratory")
    lab.node.locator("summary", has_text="More settings").click()
    lab.trait("width").select_option(label="32")
    lab.trait("steps").select_option(label="300")
    lab.press("Run 20 seeds")
    lab.wait("node.model.get('runs').length >= 3")
    lab.node.get_by_role("button", name="Stop").click()
    runs = pd.DataFrame(lab.get("runs"))
    cells = lab.node.locator("table tbody tr", has_text="m = 3").locator("td").all_inner_texts()
    low, high = stats.interval(runs.student)
    assert int(cells[0]) == len(runs)
    assert cells[1] == f"{runs.student.mean():.0%} ± {50 * (high - low):.1f}"


LOOKS = [
    ("laboratory", 360, "dark"),
    ("results", 360, "light"),
    ("plane", 1280, "light"),
    ("step", 1280, "dark"),
]
LOOKS += [("noise", 360, "dark"), ("partners", 360, "light"), ("partners", 1280, "dark")]
LOOKS += [("cuts", 360, "light"), ("lists", 1280, "dark"), ("parts", 1280, "light")]


@pytest.mark.parametrize(("module", "width", "colors"), LOOKS)
def test_an_explorer_has_no_accessibility_fault(show, module, width, colors):
    shown = show(module, width=width, colors=colors)
    shown.node.evaluate("node => node.querySelectorAll('details').forEach((one) => (one.open = true))")
    if module == "laboratory":
        shown.press("Step")
        shown.wait("node.querySelector('.explorer-map .name')")
    shown.page.evaluate(AXE)
    asked = f"axe.run('.explorer[data-explorer=\"{module}\"]', {{preload: false, resultTypes: ['violations']}})"
    found = shown.page.evaluate(asked)["violations"]
    assert not found, [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found]
    assert shown.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def center(shown, handle):
    """The middle of a handle in the window, after scrolling there."""
    shown.node.scroll_into_view_if_needed()
    grip = shown.node.get_by_role("slider", name=handle).locator("circle")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(shown, handle, right, up):
    x, y = center(shown, handle)
    shown.page.mouse.move(x, y)
    shown.page.mouse.down()
    shown.page.mouse.move(x + right, y - up, steps=3)
    shown.page.mouse.up()


def test_the_plane_follows_pointer_and_keys(show):
    plane = show("plane", scheme="file")
    plane.press("a general teacher")
    first = plane.get("result")
    assert first["angle"] == pytest.approx(51.6, abs=0.1)
    drag(plane, "Column 1 of W2, class logit", 30, -30)
    dragged = plane.get("heads")
    assert dragged[0][0] > 0.7
    assert dragged[1][0] < 1.0
    assert plane.get("result")["angle"] != first["angle"]
    plane.node.get_by_role("slider", name="Column 1 of W1, hidden unit 1").press("ArrowUp")
    assert plane.get("hidden")[1][0] == pytest.approx(0.45)
    plane.press("two logits")
    assert plane.get("result")["error"] == pytest.approx(0, abs=1e-9)
    plane.press("heads at right angles")
    assert plane.get("result")["share"] == pytest.approx(0, abs=1e-9)
    assert "0.00" in plane.node.locator(".explorer-live table").inner_text()


def test_the_plane_follows_a_finger_and_the_page_stays(show):
    plane = show("plane", width=360, has_touch=True, is_mobile=True)
    plane.node.get_by_role("button", name="a general teacher").tap()
    before, (x, y) = plane.get("heads"), center(plane, "Column 1 of W2, class logit")
    scrolled = plane.page.evaluate("scrollY")
    touch = plane.visit.context.new_cdp_session(plane.page)
    for what, points in (
        ("Start", [(x, y)]),
        ("Move", [(x, y - 20)]),
        ("Move", [(x, y - 40)]),
        ("End", []),
    ):
        points = [{"x": across, "y": down} for across, down in points]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{what}", "touchPoints": points})
    plane.wait(f"node.model.get('heads')[1][0] !== {before[1][0]}")
    assert plane.page.evaluate("scrollY") == scrolled
    assert plane.get("heads")[1][0] > before[1][0] + 0.1


def test_the_sign_of_the_small_step(show):
    step = show("step")
    assert step.get("result")["inner"] > 0
    drag(step, "Teacher's step", -150, -60)
    assert step.get("result")["inner"] >= 0
    step.press("away")
    assert step.get("result")["inner"] < 0
    assert "negative" in step.node.locator(".explorer-live table").inner_text()
    step.node.get_by_role("radio", name="the teacher's").check()
    assert step.get("result")["inner"] >= 0


def test_results_are_those_of_the_chapters_table(show):
    results = show("results", scheme="file")
    packed = results.get("data")
    factors = {
        name: np.array(found["levels"])[found["codes"]] for name, found in packed["factors"].items()
    }
    table = pd.DataFrame(factors).assign(
        accuracy=packed["measures"]["accuracy"], model=packed["units"]
    )
    last = table[table.epoch == results.get("where")["epoch"]]
    means = stats.summary(last, by="arm")
    for row, ours in zip(results.get("shown"), means.itertuples(), strict=True):
        assert row["level"] == ours.arm
        assert [row["mean"], row["low"], row["high"]] == pytest.approx(
            [ours.mean, ours.low, ours.high], abs=1e-5
        )
    base = "student, auxiliary logits"
    results.trait("baseline").select_option(label=base)
    expected = stats.paired(last, over="arm", against=base, units=["model"])
    assert [row["mean"] for row in results.get("shown")] == pytest.approx(
        expected.difference.tolist(), abs=1e-5
    )
    results.trait("factor").select_option(label="epoch")
    assert len(results.get("shown")) == last.epoch.nunique() * table.epoch.nunique()
    assert results.get("baseline") == "(none)"
    results.trait("hue").select_option(label="arm")
    assert len(results.get("shown")) == table.arm.nunique() * table.epoch.nunique()
    with results.page.expect_download() as download:
        results.press("Download the rows (CSV)")
    assert len(pd.read_csv(download.value.path())) == len(table)


def test_partners_are_found_by_word_number_and_pair(show):
    shown = show("partners", scheme="file")
    words, numbers = shown.get("words"), shown.get("numbers")
    assert {f"{number:03d}" for number in range(len(numbers))} == set(numbers)  # no number is left out
    marked = "node.querySelector('.cloud.found').getAttribute('d').split('M').length - 1"
    for text, count in [
        ("owl", len(numbers)),
        (numbers[7], len(words)),
        (f"owl {numbers[7]}", 1),
        ("nobody", 0),
    ]:
        search = shown.trait("chosen")
        search.fill(text)
        search.press("Enter")
        shown.wait(f"{marked} === {count}")
        assert shown.get("chosen") == text
        rows = shown.node.locator(".explorer-live table").first.locator("tbody tr")
        assert rows.count() == min(count, 8)
    assert "Nothing here is called nobody" in shown.node.inner_text()
    shown.trait("chosen").fill("owl")
    shown.trait("chosen").press("Tab")
    measure = list(shown.get("measures"))[1]
    shown.trait("upward").select_option(label=measure)
    best = shown.node.locator(".explorer-live table").first.locator("tbody tr").first.inner_text()
    top = max(
        numbers,
        key=lambda number: value(
            shown.get("measures")[measure], words.index("owl"), numbers, number
        ),
    )
    assert best.startswith(f"owl, {top}")


def test_the_bench_holds_every_family_of_inputs(show):
    noise = show("noise")
    families = {look["family"] for look in noise.get("looks")}
    missing = {"fashion"}  # its images have another size than the embedded digits of the smoke book
    assert families == set(INPUTS) - missing
    for family in ("uniform", "permuted", "blurred"):
        noise.trait("family").select_option(label=family)
        assert INPUTS[family].strength in noise.node.inner_text()


def value(packed, word, numbers, number):
    codes = np.frombuffer(base64.b64decode(packed["codes"]), dtype=np.int8)
    return codes[word * len(numbers) + numbers.index(number)] * packed["scale"]


def test_colors_follow_the_theme_at_once(show):
    plane = show("plane")
    color = "node => getComputedStyle(node.querySelector('.explorer-live')).backgroundColor"
    light = plane.node.evaluate(color)
    plane.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert plane.node.evaluate(color) != light


def test_reduced_motion_redraws_once_a_second(show):
    lab = show("laboratory", reduced_motion="reduce")
    lab.press("Play")
    lab.wait("node.querySelector('.teacher.name')")
    counted = """node => new Promise(done => { let n = 0; const watch = new MutationObserver(() => n += 1);
      watch.observe(node.querySelector('.explorer-chart'), {childList: true}); setTimeout(() => done(n), 3000); })"""
    assert (
        1 <= lab.node.evaluate(counted) <= 8
    )  # a redraw replaces the chart's parts in two steps at most


@pytest.mark.parametrize("module", ["laboratory", "plane"])
def test_without_scripts_and_in_print_a_picture_and_a_table_stand_in(site, browser, module):
    visit = Visit(browser, 800, "light", java_script_enabled=False)
    visit.page.goto((site / PAGES[module]).as_uri())
    still = visit.page.locator(f'.explorer[data-explorer="{module}"] .explorer-still')
    assert still.locator("img").is_visible()
    assert still.locator("table").is_visible()
    visit.context.close()
    visit = Visit(browser, 800, "light")
    node = visit.page.locator(f'.explorer[data-explorer="{module}"]')
    visit.page.goto((site / PAGES[module]).as_uri())
    node.locator("xpath=self::*[@data-live]").wait_for()
    assert not node.locator(".explorer-still").is_visible()
    visit.page.emulate_media(media="print")
    assert node.locator(".explorer-still img").is_visible()
    assert not node.locator(".explorer-live").is_visible()
    visit.context.close()
    assert not visit.faults
