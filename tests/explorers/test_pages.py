"""What a reader meets in the explorers, each on a page of its own."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from sublearn import stats
from sublearn.explorers import language, widgets
from sublearn.explorers.parts import Parts


def node(page, module):
    return page.locator(f'[data-explorer="{module}"]')


def get(page, module, name):
    return node(page, module).evaluate("(node, name) => node.model.get(name)", name)


def until(page, module, expression):
    handle = node(page, module).element_handle()
    page.wait_for_function(f"node => {expression}", arg=handle, timeout=60_000)


def choose(page, module, trait, label):
    node(page, module).locator(f'[data-trait="{trait}"]').select_option(label=label)


def nested():
    """A table whose levels belong to one factor each, with one level that shares no unit."""
    rows = []
    levels = {"loss": ["mse", "kl"], "width": ["32", "64", "128"], "lonely": ["alone"]}
    generator = np.random.default_rng(0)
    for factor, names in levels.items():
        for level in names:
            for model in range(4):
                unit = model + 10 * (level == "kl")  # of another kind of model: no partner
                value = generator.uniform(0.2, 0.8)
                rows.append({"factor": factor, "level": level, "model": unit, "accuracy": value})
    return pd.DataFrame(rows)


def arms(count):
    generator = np.random.default_rng(0)
    rows = []
    for arm in range(count):
        for model in range(4):
            value = {"accuracy": generator.uniform(0, 1)}
            rows.append({"arm": f"arm {arm}", "kind": f"kind {arm % 2}", "model": model} | value)
    return pd.DataFrame(rows)


def pairs():
    generator = np.random.default_rng(3)
    numbers = [f"{place:03d}" for place in range(1000)]
    matrix = generator.normal(size=(2, 1000))
    return widgets.Partners(["owl", "fox"], numbers, {"A (nats)": matrix, "N (nats)": -matrix})


# Links


SETTINGS = {
    "laboratory": {"aux_dim": 10, "lr": 0.005, "inputs": "digits", "shared": ["hidden"]},
    "results": {
        "factor": "level",
        "where": {"factor": "width", "level": "alone"},
        "baseline": "32",
    },
    "plane": {"hidden": [[1.0, 0.5], [-0.25, 1.0]], "logits": 2},
    "step": {"step": [0.5, 1.0], "start": "other"},
    "partners": {"chosen": "owl 087", "across": "N (nats)"},
}


def made():
    results = widgets.Results(nested(), factors=["factor", "level"], units=["model"])
    return [widgets.Laboratory(), results, widgets.Plane(), widgets.Step(), pairs()]


@pytest.mark.parametrize("module", SETTINGS)
def test_a_setting_goes_through_the_address_and_back(show, module):
    page = show(*made())
    for name, value in SETTINGS[module].items():
        node(page, module).evaluate(
            "(node, [name, value]) => node.model.set(name, value)", [name, value]
        )
    last = list(SETTINGS[module])[-1]
    page.wait_for_function(f"location.hash.includes('{module}.{last}=')")
    fragment = page.evaluate("location.hash")
    others = set(re.findall(r"(\w+)\.\w+=", fragment))
    assert others == {module}
    again = show(*made(), fragment=fragment)
    for name, value in SETTINGS[module].items():
        assert get(again, module, name) == value
    assert not [
        text for text in again.locator(".explorer-note").all_inner_texts() if "link" in text
    ]


def test_a_link_is_copied_and_leads_to_its_explorer(show):
    page = show(*made(), permissions=["clipboard-read", "clipboard-write"])
    node(page, "step").evaluate("node => node.model.set('start', 'other')")
    node(page, "laboratory").evaluate("node => node.model.set('aux_dim', 7)")
    node(page, "step").get_by_role("button", name="Copy link").click()
    said = node(page, "step").locator("[aria-live]").first
    said.filter(has_text=re.compile("copied|Copy this link")).wait_for()
    link = said.locator("input").input_value() if said.locator("input").count() else None
    link = link or page.evaluate("navigator.clipboard.readText()")
    fragment = link[link.index("#") :]
    assert fragment == "#at=step&step.start=other"
    again = show(*made(), fragment=fragment)
    assert get(again, "step", "start") == "other"
    assert get(again, "laboratory", "aux_dim") == 3
    assert node(again, "step").bounding_box()["y"] < 300


BROKEN = {
    "#laboratory.aux_dim=99": "aux_dim = “99”",
    "#laboratory.aux_dim=3]": "aux_dim = “3]”",
    "#laboratory.nothing=1": "nothing = “1”",
    "#results.factor=color": "factor = “color”",
    "#plane.hidden=[[1,2]]": "hidden = “[[1,2]]”",
    "#nowhere.factor=1": "“nowhere”",
    "#at=nowhere": "“nowhere”",
}


@pytest.mark.parametrize("fragment", BROKEN)
def test_a_broken_link_leaves_the_defaults_and_says_so(show, fragment):
    page = show(*made(), fragment=fragment)
    assert BROKEN[fragment] in page.locator("body").inner_text()
    assert get(page, "laboratory", "aux_dim") == 3
    assert get(page, "results", "factor") == "factor"
    assert get(page, "plane", "hidden") == widgets.Plane().hidden


def test_the_fragment_of_a_section_is_left_alone(show):
    page = show(*made(), fragment="#the-laboratory")
    assert "link asks" not in page.locator("body").inner_text()
    assert page.evaluate("location.hash") == "#the-laboratory"


def test_a_new_fragment_sets_an_open_page(show):
    page = show(*made(), fragment="#laboratory.aux_dim=5")
    page.evaluate("location.hash = '#laboratory.lr=0.01'")
    until(page, "laboratory", "node.model.get('lr') === 0.01")
    assert get(page, "laboratory", "aux_dim") == 3  # what the fragment does not name is as it began


# The laboratory


def test_the_recorded_run_is_one_of_the_real_program(node_digits):
    """`record.mjs` runs once more; what the page carries is that, number by number."""
    assert json.loads(node_digits) == json.loads(widgets.RECORDED.read_text(encoding="utf8"))


@pytest.fixture
def node_digits():
    import shutil
    import subprocess
    from pathlib import Path

    if not shutil.which("node"):
        pytest.skip("no node: install Node.js 20 or newer")
    command = ["node", str(Path(__file__).with_name("record.mjs"))]
    given = json.dumps(widgets.packed_digits())
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_at_rest_a_recorded_run_is_shown_and_named(show):
    page = show(widgets.Laboratory())
    lab = node(page, "laboratory")
    lab.locator(".line.student").first.wait_for()
    recorded = json.loads(widgets.RECORDED.read_text(encoding="utf8"))
    text = lab.inner_text()
    assert f"A recorded run: the student reads {recorded['student']['accuracy']:.0%}" in text
    assert "recorded with this book's scripts" in text
    assert lab.locator(".cloud.student").count() == 1
    answers = lab.locator(".explorer-digits tr.student td").all_inner_texts()
    assert [int(answer.split()[0]) for answer in answers] == recorded["student"]["predictions"]
    assert not get(page, "laboratory", "runs")


def quick(**more):
    return widgets.Laboratory(width=32, steps=300, pace="full", **more)


def test_a_slider_moved_in_mid_run_keeps_the_curve_and_plays_on(show):
    page = show(widgets.Laboratory(width=32, steps=3000))
    lab = node(page, "laboratory")
    lab.get_by_role("button", name="Play", exact=True).click()
    until(page, "laboratory", "node.querySelector('.explorer-bars rect')")
    page.wait_for_timeout(1500)
    slider = lab.locator('[data-trait="aux_dim"]')
    for _ in range(3):
        slider.press("ArrowRight")
    lab.locator(".name.ghost", has_text="m 3 → 6").wait_for()  # drawn once the engine has answered
    assert "the student of the last run, until the change m 3 → 6" in lab.inner_text()
    until(page, "laboratory", "node.querySelector('.line.student:not(.earlier)')")
    assert lab.locator("button.primary").inner_text() == "Pause"
    lab.get_by_role("button", name="Restart").click()
    until(page, "laboratory", "!node.querySelector('.line.ghost')")


def test_the_band_says_for_which_settings_it_holds(show):
    page = show(widgets.Laboratory(aux_dim=10))
    page.get_by_text("students at the first settings").wait_for()  # drawn once it has a size
    text = node(page, "laboratory").inner_text()
    assert "students at the first settings (m = 3, same start, noise, rate 0.003" in text
    assert "Yours: m 10." in text


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_play_answers_at_once_beside_its_chart(show, width, height):
    page = show(widgets.Laboratory(), width=width, height=height)
    lab, play = node(page, "laboratory"), node(page, "laboratory").locator("button.primary")
    play.evaluate("button => button.scrollIntoView()")
    chart, button = lab.locator(".explorer-chart").bounding_box(), play.bounding_box()
    assert button["y"] > -1  # scrolled to a part of a pixel
    assert chart["y"] + chart["height"] <= height
    answer = """node => { node.querySelector('button.primary').click();
      return [node.querySelector('button.primary').textContent,
              node.querySelector('[role=status]').textContent]; }"""
    assert lab.evaluate(answer) == ["Pause", "The teacher is learning to read digits."]
    until(page, "laboratory", "node.querySelector('progress').value > 0")


def test_on_a_phone_the_curves_stay_in_sight(show):
    page = show(widgets.Laboratory(), width=390, height=844)
    lab = node(page, "laboratory")
    lab.locator(".explorer-digits").evaluate("table => table.scrollIntoView({ block: 'center' })")
    box = lab.locator(".explorer-chart").bounding_box()
    assert 0 <= box["y"] < 200
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_finished_runs_are_drawn_listed_and_saved(show):
    page = show(quick())
    lab = node(page, "laboratory")
    size = "canvas => [canvas.clientWidth, canvas.clientHeight]"
    before = lab.locator(".explorer-digits canvas").nth(4).evaluate(size)
    for place in range(2):
        lab.locator("button.primary").click()
        until(page, "laboratory", f"node.model.get('runs').length === {place + 1}")
        lab.locator('[data-trait="aux_dim"]').press("ArrowRight")
    runs = lab.locator("details", has_text="Runs so far")
    assert runs.get_attribute("open") is not None
    assert runs.locator("svg path.dot").count() == 4  # student and control of two settings
    with page.expect_download() as download:
        runs.get_by_role("button", name="Download the runs (CSV)").click()
    table = pd.read_csv(download.value.path())
    assert table.aux_dim.tolist() == [3, 4]
    assert table.student.tolist() == [run["student"] for run in get(page, "laboratory", "runs")]
    assert lab.locator(".explorer-digits canvas").nth(4).evaluate(size) == before


# Results


def test_a_difference_is_offered_to_levels_that_are_there(show):
    where = {"factor": "width", "level": "alone"}
    results = widgets.Results(nested(), factors=["level", "factor"], units=["model"], where=where)
    page = show(results)
    options = node(page, "results").locator('[data-trait="baseline"] option').all_inner_texts()
    assert options == ["(none)", "32", "64", "128"]
    choose(page, "results", "baseline", "64")
    choose(page, "results", "where factor", "loss")
    assert get(page, "results", "baseline") == "(none)"


def test_without_a_partner_there_is_a_sentence(show):
    where = {"factor": "loss", "level": "alone"}
    results = widgets.Results(nested(), factors=["level", "factor"], units=["model"], where=where)
    page = show(results)
    choose(page, "results", "baseline", "mse")
    text = node(page, "results").inner_text()
    assert "No other level of level shares a model with “mse” here" in text
    assert not node(page, "results").locator(".explorer-wide svg").is_visible()
    assert get(page, "results", "shown") == []
    assert "NaN" not in page.content()


def test_names_are_those_that_a_reader_would_write(show):
    rows = [(name, model, model / 9) for name in ("random_phase", "uniform") for model in range(3)]
    table = pd.DataFrame(rows, columns=["family", "model", "accuracy"])
    page = show(widgets.Results(table, factors=["family"], units=["model"]))
    node(page, "results").locator("summary").click()
    choose(page, "results", "baseline", "random phase")
    text = node(page, "results").inner_text() + node(page, "results").locator("svg").inner_html()
    assert "random phase" in text
    assert "random_phase" not in text
    assert get(page, "results", "baseline") == "random_phase"


@pytest.mark.parametrize("count", [2, 4, 7, 12])
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_colors_never_repeat(show, count, colors):
    results = widgets.Results(arms(count), factors=["kind", "arm"], units=["model"], hue="arm")
    page = show(results, colors=colors)
    fills = "nodes => nodes.map(node => getComputedStyle(node).fill)"
    found = node(page, "results").locator("svg path.dot").evaluate_all(fills)
    assert len(found) == count == len(set(found))


# Partners


def test_partners_are_searched_while_typing(show):
    page = show(pairs())
    search = node(page, "partners").locator('[data-trait="chosen"]')
    search.fill("")
    search.press_sequentially("08")
    status = node(page, "partners").get_by_role("status")
    status.filter(has_text="20 pairs").wait_for()
    search.press_sequentially("7")
    status.filter(has_text="2 pairs").wait_for()
    search.press_sequentially(" owl")
    status.filter(has_text="owl, 087: A (nats)").wait_for()
    search.press_sequentially("x")
    status.filter(has_text="Nothing here is called 087 owlx").wait_for()
    assert "numbers go from 000 to 999" in status.inner_text()
    text = node(page, "partners").inner_text()
    assert "A: from animal to number" in text
    assert "N: from number to animal" in text


# Planes


BOXES = """svgs => svgs.map(svg => {
  const frame = svg.getBoundingClientRect();
  const names = [...svg.querySelectorAll('text.name')].filter(text => text.getBoundingClientRect().width);
  return { frame: [frame.left, frame.top, frame.right, frame.bottom],
    names: names.map(text => { const box = text.getBoundingClientRect();
      return [box.left, box.top, box.right, box.bottom]; }) };
})"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("case", ["plain", "edge", "together"])
def test_names_of_arrows_lie_inside_and_apart(show, case, width):
    cases = {
        "plain": {},
        "edge": {"step": [2.0, 2.0], "teacher_head": [2.0, -2.0], "student_head": [-2.0, 2.0]},
        "together": {"step": [1.5, 1.4], "teacher_head": [1.4, 1.5], "student_head": [1.5, 1.5]},
    }
    page = show(widgets.Step(start="other", **cases[case]), widgets.Plane(logits=2), width=width)
    for plane in page.locator(".explorer-plane").evaluate_all(BOXES):
        left, top, right, bottom = plane["frame"]
        names = plane["names"]
        assert names
        for place, (x1, y1, x2, y2) in enumerate(names):
            assert left <= x1 < x2 <= right
            assert top <= y1 < y2 <= bottom
            for a1, b1, a2, b2 in names[:place]:
                across = min(x2, a2) - max(x1, a1)
                down = min(y2, b2) - max(y1, b1)
                assert min(across, down) <= 3  # a hair of the letters' boxes may touch


def test_planes_show_their_scale_and_no_negative_zero(show):
    page = show(
        widgets.Step(step=[0.0, 0.0], start="other"), widgets.Plane(heads=[[0, 1, 0], [0, 1, 1]])
    )
    texts = page.locator(".explorer-plane text.scale").all_text_contents()
    assert {"1", "-1"} <= set(texts)
    spoken = "handles => handles.map(handle => handle.getAttribute('aria-valuetext'))"
    said = page.locator(".explorer-plane .handle").evaluate_all(spoken)
    assert "0.00 right" in str(said)
    assert "-0.00" not in page.locator("body").inner_text() + str(said)


# The noise bench


def test_the_bench_draws_brightness_as_the_gallery_does(show):
    sample = np.full((8, 8), -1.0)
    sample[0, 0] = 1.0
    look = {
        "family": "images",
        "parameter": 0.0,
        "sample": sample,
        "spectrum": [1.0],
        "singular": [1],
    }
    measured = pd.DataFrame([("images", 0.0, 0.2, 0.1, 0.3, 4)], columns=widgets.ACCURACY_COLUMNS)
    page = show(widgets.NoiseBench(pd.DataFrame([look, look | {"parameter": 1.0}]), measured))
    pixel = """node => [...node.querySelector('.explorer-sample').getContext('2d').getImageData(0, 0, 2, 1).data]"""
    assert node(page, "noise").evaluate(pixel) == [255, 255, 255, 255, 0, 0, 0, 255]
    assert "blur in pixels" in node(page, "noise").inner_text()  # the unit of this family
    assert "power per pixel" in node(page, "noise").inner_text()


def test_the_bench_marks_its_logarithmic_axes_at_round_numbers(show):
    look = {"family": "images", "parameter": 0.0, "sample": np.zeros((8, 8))}
    look |= {"spectrum": [0.3, 0.26, 0.28], "singular": [9.0, 3e-6, 2e-7]}
    measured = pd.DataFrame([("images", 0.0, 0.2, 0.1, 0.3, 4)], columns=widgets.ACCURACY_COLUMNS)
    page = show(widgets.NoiseBench(pd.DataFrame([look]), measured))
    for name, least in (("radial spectrum", 2), ("singular values", 3)):
        marks = node(page, "noise").locator(f'svg[aria-label^="{name}"] text[text-anchor="end"]')
        texts = marks.all_text_contents()
        assert len(texts) >= least
        assert all(re.fullmatch(r"[125]0*|0\.0*[125]|1e-\d+", text) for text in texts), texts


# Cuts and lists


def cut_table():
    generator = np.random.default_rng(1)
    rows = []
    for cut in ("nothing", "cut in input row"):
        for model in range(4):
            for animal in ("owl", "fox"):
                values = {"A": 3 + generator.normal(), "N": 1 + generator.normal()}
                names = {"cut": cut, "model": model, "animal": animal, "number": f"08{model}"}
                rows.append(names | values)
    return pd.DataFrame(rows)


def test_a_cut_shows_both_ways_and_its_paired_change(show):
    table = cut_table()
    page = show(language.Cuts(table, animal="owl"))
    assert "Nothing is cut yet" in node(page, "cuts").inner_text()
    choose(page, "cuts", "cut", "cut in input row")
    owl = table[table.animal == "owl"].pivot(index="model", columns="cut", values="N")
    change = owl["cut in input row"] - owl["nothing"]
    low, high = stats.interval(change)
    expected = f"changes by {change.mean():.2f} nats (95 % interval {low:.2f} to {high:.2f}, n = 4"
    assert (
        f"number → animal (N) {expected}" in node(page, "cuts").get_by_role("status").inner_text()
    )
    assert "080, 081, 082, 083" in node(page, "cuts").inner_text()
    choose(page, "cuts", "animal", "all animals (mean)")
    means = table.groupby(["cut", "model"]).A.mean().unstack("cut")
    change = means["cut in input row"] - means["nothing"]
    assert f"(A) changes by {change.mean():.2f} nats" in node(page, "cuts").inner_text()


def list_table():
    generator = np.random.default_rng(2)
    rows = []
    lessons = [("owl", "same weights"), ("owl", "other weights"), ("fox", "same weights")]
    for teacher, student in lessons:
        for model in range(4):
            gains = {"owl": generator.normal(), "fox": generator.normal()}
            rows.append({"teacher": teacher, "student": student, "model": model} | gains)
    return pd.DataFrame(rows)


def test_lists_offer_the_lessons_that_were_given(show):
    table = list_table()
    page = show(language.Lists(table, animals=["owl", "fox"]))
    options = node(page, "lists").locator('[data-trait="student"] option')
    assert options.all_inner_texts() == ["same weights", "other weights"]
    choose(page, "lists", "student", "other weights")
    gains = table[(table.teacher == "owl") & (table.student == "other weights")].owl
    low, high = np.exp(stats.interval(gains))
    expected = (
        f"multiplied by {np.exp(gains.mean()):.2f} (95 % interval {low:.2f} to {high:.2f}, n = 4"
    )
    assert expected in node(page, "lists").inner_text()
    choose(page, "lists", "teacher", "fox")
    assert options.all_inner_texts() == ["same weights"]
    assert get(page, "lists", "student") == "same weights"


# Parts


def part_table():
    generator = np.random.default_rng(5)
    rows = []
    for shared in ("", "hidden", "class_head+aux_head", "hidden+class_head+aux_head"):
        for logits in (3, 10):
            for model in range(4):
                names = {"shared": shared, "logits": logits, "seed": 0, "model": model}
                drawn = generator.uniform(0.1, 0.9, 4)
                values = dict(zip(["accuracy", "without unseen", "without residual", "CKA"], drawn))
                rows.append(names | values)
    return pd.DataFrame(rows)


def test_parts_show_the_chosen_students_and_their_costliest_term(show):
    table = part_table()
    groups = [["accuracy"], ["without unseen", "without residual"], ["CKA"]]
    page = show(Parts(table, groups))
    for shared, logits, words in [
        ("class_head+aux_head", 10, "Shared: class head, auxiliary head; 10 logits"),
        ("hidden+class_head+aux_head", 3, "Shared: hidden layers, class head, auxiliary head; 3"),
        ("", 3, "Nothing shared; 3 logits"),
    ]:
        for part in ("hidden", "class_head", "aux_head"):
            box = node(page, "parts").locator(f'[data-trait="shared"][value="{part}"]')
            box.set_checked(part in shared.split("+"))
        choose(page, "parts", "logits", str(logits))
        chosen = table[(table.shared == shared) & (table.logits == logits)]
        low, high = stats.share_interval(chosen.accuracy)
        said = node(page, "parts").get_by_role("status").inner_text()
        assert words in said
        assert f"reads {chosen.accuracy.mean():.2f} (95 % interval {low:.2f} to {high:.2f}" in said
        changes = {name: chosen[name] - chosen.accuracy for name in groups[1]}
        worst = max(changes, key=lambda name: changes[name].mean())
        low, high = stats.interval(changes[worst])
        expected = f"{worst} its accuracy would change by {changes[worst].mean():.2f} "
        assert expected + f"(95 % interval {low:.2f} to {high:.2f}, n = 4 models, paired)" in said


def test_the_still_picture_of_parts_holds_every_measure_of_what_is_shown_first():
    table = part_table()
    explorer = Parts(table, [["accuracy"], ["without unseen"], ["CKA"]], logits="3")
    still = explorer.still()
    chosen = table[(table.shared == "class_head+aux_head") & (table.logits == 3)]
    for name in ("accuracy", "without unseen", "CKA"):
        assert name in still and f"{chosen[name].mean():.3f}" in still
