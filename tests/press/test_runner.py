"""The runner, on small notebooks in a project of its own; what can be shared saves kernels."""

import csv
import fcntl
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from press import runner, site
from sublearn.core import machine, store
from sublearn.nets import data, pictures

PARAMETERS = 'dataset = "mnist"\nmodels = 8'
GOOD = [
    ("t", "markdown", "# A question"),
    ("p", "parameters", PARAMETERS),
    ("a", "code", """
        import json, os
        from pathlib import Path
        from sublearn.core import rng
        results = Path(os.environ["SUBLIMINAL_RESULTS"])
        print(dataset, models, sorted(p.name for p in results.iterdir()))"""),
    ("w", "markdown", "Words."),
    ("b", "code", """
        rows = [dict(name="x", value=0.5, low=None, high=0.6, n=4, setting="REF", device="cpu"),
                dict(name="y", value=2.0, unit="nats", setting="lr=0.1", device="cuda")]
        results.joinpath("records.jsonl").write_text("\\n".join(map(json.dumps, rows)) + "\\n")
        results.joinpath("arms.csv").write_text("threads\\n" + os.environ["SUBLIMINAL_THREADS"])
        Path(os.environ["SUBLIMINAL_PROGRESS"]).write_text("\\rteacher 1/4\\rstudent 3/4");"""),
    ("c", "code", """
        from IPython.display import display
        label = {"name": "fig:x", "caption": "What is seen.", "alt": "One line rises."}
        picture = {"image/svg+xml": "<svg/>", "text/plain": "x"}
        display(picture, raw=True, metadata={"sublearn": label})"""),
]  # fmt: skip
RAISES = [
    ("t", "markdown", "# Raises"),
    ("p", "parameters", PARAMETERS),
    ("w", "markdown", "Words."),
    ("a", "code", "def deep():\n    raise ValueError(f'no {models}\\nmore')\n\ndeep()"),
]
DIES = [
    ("t", "markdown", "# Dies"),
    ("p", "parameters", "seed = 0"),
    ("a", "code", "import os; os._exit(1)"),
]
LEAVES = [
    ("t", "markdown", "# Leaves"),
    ("p", "parameters", "seed = 0"),
    ("a", "code", "raise SystemExit(0)"),
]
WAITS = [
    ("t", "markdown", "# Waits"),
    ("p", "parameters", PARAMETERS),
    ("a", "code", """
        import os, time
        from pathlib import Path
        Path("../pid").write_text(str(os.getpid()))
        while not Path("../go").exists():
            time.sleep(0.05)
        print("went")"""),
]  # fmt: skip
PROFILES = """
smoke:
  defaults: {dataset: digits, models: 4}
laptop:
  seconds: {01_good: 75}
"""


def write_notebook(project, name, cells):
    built = []
    for key, kind, source in cells:
        cell = {
            "cell_type": "markdown" if kind == "markdown" else "code",
            "id": key,
            "metadata": {},
        }
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
            cell["metadata"] = {} if kind == "code" else {"tags": [kind]}
        built.append(
            cell | {"source": textwrap.dedent(source).strip("\n").splitlines(keepends=True)}
        )
    text = json.dumps({"cells": built, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    project.source(name).write_text(text)


def make_project(root, *, profile="smoke", **notebooks):
    (root / "notebooks").mkdir(parents=True)
    (root / "book" / "reference").mkdir(parents=True)
    (root / "requirements.txt").write_text("torch==2\n")
    (root / "profiles.yml").write_text(PROFILES)
    project = runner.Project(root, profile)
    for name, cells in notebooks.items():
        write_notebook(project, name.removeprefix("n"), cells)
    return project


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A project after its first run, what the terminal showed, whether the run was good."""
    root = tmp_path_factory.mktemp("book") / "project"
    project = make_project(root, n01_good=GOOD, n02_raises=RAISES, n03_dies=DIES, n04_leaves=LEAVES)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.MonkeyPatch.context() as patch:
        shown = io.StringIO()
        patch.setattr(sys, "stdout", shown)
        patch.setattr(machine, "cores", lambda: 6)
        good = runner.run(project, jobs=2)
    assert {path: path.read_bytes() for path in before} == before, "sources were written"
    return project, shown.getvalue(), good


@pytest.fixture
def project(first, tmp_path):
    """A copy of that project that a test may change."""
    shutil.copytree(first[0].root, tmp_path / "project")
    return runner.Project(tmp_path / "project", "smoke")


def why(project, **options):
    return runner.plan(project, only=["01"], **options)[0][0].changes


def cell(project, key, name="01_good"):
    notebook = json.loads(project.executed(name).read_text())
    return next(cell for cell in notebook["cells"] if cell["id"] == key)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_good_notebook_gives_its_copy_its_results_and_its_tables(first):
    project, shown, _ = first
    assert "01_good  done in" in shown
    with project.results("01_good").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*runner.COLUMNS]
    assert " ".join(runner.COLUMNS) == "name value low high n unit setting dataset device code date"
    assert [row["name"] for row in rows] == ["x", "y"]
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"], rows[0]["n"]) == (
        "0.5",
        "",
        "0.6",
        "4",
    )
    assert (rows[0]["device"], rows[1]["device"], rows[1]["setting"]) == ("cpu", "cuda", "lr=0.1")
    assert (
        rows[0]["code"]
        == json.loads(project.executed("01_good").read_text())["metadata"]["press"]["digest"]
    )
    assert (
        project.root / "_build/results/smoke/01_good/arms.csv"
    ).read_text() == "threads\n3"  # 6 cores for 2


def test_parameters_environment_and_figure_reach_the_copy(first):
    project = first[0]
    assert cell(project, "a")["outputs"][0]["text"] == ["digits 4 []\n"]
    assert cell(project, "injected-parameters")["metadata"]["tags"] == [
        "injected-parameters",
        "remove-input",
    ]
    assert cell(project, "c")["metadata"]["mystnb"] == {
        "image": {"alt": "One line rises."},
        "figure": {"name": "fig:x", "caption": "What is seen."},
    }
    text = project.executed("01_good").read_text()
    assert "papermill" not in text
    assert "widgets" not in text


def test_warnings_reach_the_terminal_and_no_page(tmp_path, capsys):
    source = (
        "import sys, warnings\nprint(1)\nwarnings.warn('no home')\nprint('odd', file=sys.stderr)"
    )
    project = make_project(tmp_path / "project", n01_good=[("a", "code", source)])
    (project.root / "profiles.yml").write_text("smoke: {}")
    assert runner.run(project)
    assert [output["text"] for output in cell(project, "a")["outputs"]] == [["1\n"]]
    shown = capsys.readouterr().out
    assert re.search("^01_good  warns: .*UserWarning: no home$", shown, re.MULTILINE)
    assert shown.count("odd") == 1


def test_live_widgets_stay_behind():
    text = {"output_type": "stream", "text": "x"}
    both = {"data": {runner.WIDGET: {"model_id": "1"}, "text/html": "<p>", "text/plain": "p"}}
    dead = {"data": {runner.WIDGET: {"model_id": "2"}, "text/plain": "0%"}}
    assert runner.page_outputs([text, both, dead]) == [
        text,
        {"data": {"text/html": "<p>", "text/plain": "p"}},
    ]


def test_a_failing_cell_is_named_and_the_others_go_on(first):
    project, shown, good = first
    assert not good
    assert "cell 4: ValueError: no 4\n" in shown
    assert "02_raises.running.ipynb\n" in shown
    assert "cell 3: the kernel died" in shown
    assert "cell 3: SystemExit: 0\n" in shown
    assert [path.name for path in project.executed("").parent.glob("*.ipynb")] == ["01_good.ipynb"]


def test_an_earlier_good_copy_stays(project):
    shutil.copy(project.executed("01_good"), project.executed("03_dies"))
    before = project.executed("03_dies").read_bytes()
    assert not runner.run(project, only=["03"])
    assert project.executed("03_dies").read_bytes() == before


def test_nothing_changed_runs_nothing_and_imports_no_papermill(project):
    code = f"import sys; from press import runner, site; from pathlib import Path; \
        good = runner.run(runner.Project(Path({str(project.root)!r}), 'smoke'), only=['01']); \
        print(good, {{'papermill', 'torch', 'sphinx', 'pandas'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["01_good  up to date", "True set()"]


def test_a_second_run_gives_the_same_bytes(project):
    first_copy = project.executed("01_good").read_bytes()
    edit(project.executed("01_good"), '"cells"', '"cel')  # a damaged copy is run again, not read
    assert why(project) == ["there is no readable executed copy"]
    assert runner.run(project, only=["01"])
    assert project.executed("01_good").read_bytes() == first_copy
    assert not list(project.private("staging").iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: edit(p.source("01_good"), "sorted(", "list("), ["cell 3 changed"]),
        (lambda p: edit(p.source("01_good"), '{}, "outputs"', '{"tags": ["x"]}, "outputs"'),
         ["cell 3 changed", "cell 5 changed", "cell 6 changed"]),
        (lambda p: edit(p.source("01_good"), "import json, os", "import json os"),
         ["cell 3 changed", "sublearn.core.rng is gone"]),
        (lambda p: edit(p.source("01_good"), "# A question", "# Another"), []),
        (lambda p: edit(p.root / "profiles.yml", "models: 4", "models: 5"),
         ["parameter models: 4 -> 5"]),
        (lambda p: edit(p.root / "requirements.txt", "==2", "==3"), ["requirements.txt changed"]),
        (lambda p: p.results("01_good").unlink(), ["its results are missing"]),
        (lambda p: (p.root / "book/reference/other.csv").write_text(""), []),
        (lambda p: (p.root / "book/reference/records.csv").write_text(""),
         ["book/reference/records.csv is new"]),
        (lambda p: write_notebook(p, "01_good", GOOD[:-1]),
         ["cell c is gone", "order of cells changed"]),
        (lambda p: write_notebook(p, "01_good", [*GOOD, ("d", "code", "1")]),
         ["cell 7 is new", "order of cells changed"]),
    ],
)  # fmt: skip
def test_what_decides_a_run(project, change, reason):
    assert why(project) == []
    change(project)
    assert sorted(why(project)) == sorted(reason)


def test_an_imported_module_decides_but_not_the_press_nor_other_modules(
    project, tmp_path, monkeypatch
):
    shutil.copytree(store.PACKAGE, tmp_path / "sublearn")
    monkeypatch.setattr(store, "PACKAGE", tmp_path / "sublearn")
    assert why(project) == []
    unrelated, module = (tmp_path / "sublearn" / name for name in ("lm/tiny.py", "core/rng.py"))
    unrelated.write_text(unrelated.read_text() + "\nx = 1\n")
    module.write_text(module.read_text() + "\n# a comment\n")
    assert why(project) == []
    module.write_text(module.read_text() + "\nx = 1\n")
    assert why(project) == ["sublearn.core.rng changed"]
    inputs = runner.plan(project, only=["01"])[0][0].inputs
    assert not [item for item in inputs if "press" in item]


def test_a_python_file_that_a_notebook_imports_decides(project):
    folder = project.source("01_good").parent
    (folder / "helper.py").write_text("import deeper")
    (folder / "deeper.py").write_text("from sublearn.core import machine")
    (folder / "unused.py").write_text("x = 1")
    assert why(project) == []
    edit(project.source("01_good"), "import json, os", "import json, os, helper")
    reasons = ["cell 3 changed", "notebooks/deeper.py is new", "notebooks/helper.py is new"]
    assert sorted(why(project)) == [*reasons, "sublearn.core.machine is new"]


def test_what_is_no_chapter_is_named_and_not_run(project, capsys):
    shutil.copy(project.source("03_dies"), project.source("Untitled"))
    (project.root / "notebooks" / "notes.md").write_text("# Notes")
    (project.root / "notebooks" / "helper.py").write_text("")
    assert runner.run(project, only=["01"])
    note = "Note: notebooks/{} is not built: a chapter is named like 02_title.ipynb.\n"
    shown = capsys.readouterr().out
    assert (
        shown == note.format("Untitled.ipynb") + note.format("notes.md") + "01_good  up to date\n"
    )


def test_settings_from_outside_do_not_reach_a_kernel(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    startup = outside / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("intruder = True")
    (startup.parent / "ipython_config.py").write_text(
        "get_config().InteractiveShell.ast_node_interactivity = 'all'"
    )
    (outside / "yaml.py").write_text("raise RuntimeError")
    (outside / "start.py").write_text("intruder = True")
    (outside / "matplotlibrc").write_text("text.usetex: True")
    for name in ("IPYTHONDIR", "MPLCONFIGDIR", "MATPLOTLIBRC", "PYTHONPATH"):
        monkeypatch.setenv(name, str(outside))
    monkeypatch.setenv("PYTHONSTARTUP", str(outside / "start.py"))
    source = (
        "import matplotlib, yaml\n1\n[matplotlib.rcParams['text.usetex'], 'intruder' in globals()]"
    )
    project = make_project(tmp_path / "project", n01_good=[("a", "code", source)])
    (project.root / "profiles.yml").write_text("smoke: {}")
    assert runner.run(project)
    (output,) = cell(project, "a")["outputs"]
    assert output["data"]["text/plain"] == ["[False, False]"]


def test_a_checkout_that_cannot_be_written_is_told_in_one_sentence(tmp_path):
    project = make_project(tmp_path / "project", n01_good=GOOD)
    (project.root / "_build").write_text("")
    sentence = r"_build/\S+ cannot be written \(Not a directory\); make \S+ writable$"
    with pytest.raises(runner.PressError, match=sentence):
        runner.run(project)


def test_data_decide(project, monkeypatch):
    monkeypatch.setattr(data, "digest", lambda dataset: "another")
    assert why(project) == ["data changed"]


def test_photographs_decide_where_a_notebook_takes_them(tmp_path, monkeypatch):
    asked = PARAMETERS + "\nphotographs = 9"
    takes = [("t", "markdown", "# Photographs"), ("p", "parameters", asked)]
    project = make_project(tmp_path, n01_good=takes, n02_leaves=LEAVES)
    monkeypatch.setenv("SUBLIMINAL_PHOTOS", str(tmp_path / "photos"))
    monkeypatch.setattr(runner, "photographs_at_hand", runner.photographs_at_hand.__wrapped__)
    monkeypatch.setattr(pictures, "images_digest", pictures.images_digest.__wrapped__)

    def inputs():
        jobs, _ = runner.plan(project)
        return [job.inputs.get("photographs") for job in jobs]

    without = inputs()
    assert without == ["none", None]
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").touch()
    found, nothing = inputs()
    assert found not in without and nothing is None


def test_new_prose_is_merged_without_a_run(project, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run_all", None)
    edit(project.source("01_good"), "Words.", "Other words.")
    assert runner.run(project, only=["01"])
    assert capsys.readouterr().out == "01_good  new prose, not run\n"
    assert cell(project, "w")["source"] == "Other words."
    assert cell(project, "a")["outputs"][0]["text"] == ["digits 4 []\n"]
    assert cell(project, "c")["metadata"]["mystnb"]["figure"]["name"] == "fig:x"
    assert runner.run(project, only=["01"])
    assert capsys.readouterr().out == "01_good  up to date\n"


def test_missing_data_are_replaced_by_the_embedded_and_said(project, monkeypatch):
    def digest(dataset):
        if dataset == "mnist":
            raise data.DataUnavailable("MNIST is not here.")
        return "digest of " + dataset

    monkeypatch.setattr(data, "digest", digest)
    jobs, notes = runner.plan(runner.Project(project.root, "laptop"))
    assert notes == [
        "MNIST is not here. Instead of it the embedded 'digits' are used in 01_good, 02_raises."
    ]
    assert [job.parameters for job in jobs] == [
        {"dataset": "digits"},
        {"dataset": "digits"},
        {},
        {},
    ]
    assert jobs[0].inputs["data"] == "digest of digits"


def test_missing_data_end_a_run_that_insists_on_them(project, monkeypatch, capsys):
    def digest(dataset):
        raise data.DataUnavailable("MNIST is not here.")

    monkeypatch.setattr(data, "digest", digest)
    monkeypatch.setattr(site, "Project", lambda profile: runner.Project(project.root, profile))
    for command in ("book", "run", "why"):
        monkeypatch.setattr(
            sys, "argv", ["press", command, "--profile", "laptop", "--require-data"]
        )
        assert site.main() == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err == "Error: MNIST is not here. --require-data allows no other data.\n"


def test_the_press_refuses_a_checkout_that_it_does_not_belong_to(tmp_path, monkeypatch, capsys):
    copy = tmp_path / "copy"
    (copy / "lib" / "press").mkdir(parents=True)
    (copy / "notebooks").mkdir()
    monkeypatch.setattr(sys, "argv", ["press", "book", "--profile", "smoke"])
    for folder in (copy, copy / "notebooks"):
        monkeypatch.chdir(folder)
        assert site.main() == 2
        sentence = (
            f"Error: this Python imports {site.LIBRARY}, not {copy}/lib; "
            f"run `make` in {copy} to mend its .venv\n"
        )
        assert capsys.readouterr().err == sentence
    site.check_checkout(site.LIBRARY / "press")  # its own, and a folder of no checkout
    site.check_checkout(tmp_path)


def test_damaged_data_stop_the_run(project, monkeypatch):
    def digest(dataset):
        raise data.DataCorrupt("damaged")

    monkeypatch.setattr(data, "digest", digest)
    with pytest.raises(data.DataCorrupt):
        runner.plan(project)


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        ("models: 4", "modles: 4", {},
         "smoke: parameter 'modles' is unknown; allowed: dataset, models, seed"),
        ("01_good: 75", "09_bad: 75", {},
         "notebook '09_bad' is unknown; allowed: 01_good, 02_raises"),
        ("defaults:", "default:", {},
         "section 'default' is unknown; allowed: defaults, notebooks, seconds"),
        ("seconds: {01_good: 75}", "notebooks: {01_good: {seed: 1}}", {},
         "laptop, 01_good: parameter 'seed' is"),
        ("", "", {"only": ["07"]}, "notebook '07' is unknown; allowed: 01_good, 02_raises"),
        ("", "", {"only": ["01"], "parameters": {"seed": 1}},
         "parameter 'seed' is unknown; allowed: dataset, models"),
        ("dataset: digits", "dataset: mnits", {}, "'mnits'"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_refused_before_anything_runs(project, old, new, options, message):
    edit(project.root / "profiles.yml", old, new)
    with pytest.raises(ValueError) as error:
        runner.plan(project, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("models", "eight", "parameter models is 'eight'; give a value of type int, such as 8"),
        ("models", 3.5, "parameter models is 3.5; give a value of type int, such as 8"),
        ("models", True, "parameter models is True; give a value of type int, such as 8"),
        ("models", -1, "parameter models is -1; the least value is 1"),
        ("seed", -1, "parameter seed is -1; the least value is 0"),
        ("fine", 1, "parameter fine is 1; give a value of type bool, such as False"),
        ("goal", "high", "parameter goal is 'high'; give a value of type float, such as 0.2"),
    ],
)
def test_a_parameter_has_the_type_of_its_default(tmp_path, key, value, message):
    cells = [("p", "parameters", "models = 8\nseed = 0\nfine = False\ngoal = 0.2")]
    project = make_project(tmp_path / "project", n01_good=cells)
    (project.root / "profiles.yml").write_text("smoke: {}")
    (job,), _ = runner.plan(project, parameters={"models": 1, "seed": 0, "fine": True, "goal": 1})
    assert job.parameters == {"models": 1, "fine": True, "goal": 1}
    with pytest.raises(runner.PressError) as error:
        runner.plan(project, parameters={key: value})
    assert str(error.value) == message


def test_an_unknown_profile_is_refused_by_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["press", "run", "--profile", "huge"])
    assert site.main() == 2
    assert "profile 'huge' is unknown; allowed: laptop, paper, reference, smoke" in capsys.readouterr().err


def test_an_unknown_number_type_is_refused_by_the_command_line(monkeypatch, capsys):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "half")
    monkeypatch.setattr(sys, "argv", ["press", "why", "01", "-p", "seed=1"])
    assert site.main() == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Error: SUBLIMINAL_PRECISION is 'half'; choose one of")
    assert shown.count("\n") == 1


def test_the_parameters_cell_holds_literals_only(project):
    edit(project.source("01_good"), "models = 8", "models = 4 * 2")
    with pytest.raises(
        runner.PressError,
        match="01_good: its parameters cell holds more than `name = literal` lines",
    ):
        runner.plan(project)


def test_the_command_line_reads_values():
    texts = ("lr=1e-3", "dataset=digits", "dims=[1, 2]", "fine=false")
    options = [option for text in texts for option in ("-p", text)]
    arguments = site.parse(["run", "02", "--jobs", "2", *options])
    assert dict(arguments.p) == {"lr": 0.001, "dataset": "digits", "dims": [1, 2], "fine": False}
    assert (arguments.names, arguments.jobs, arguments.profile) == (["02"], 2, "laptop")


@pytest.mark.parametrize("good", [True, False])
def test_the_exit_status_tells_of_failure(good, monkeypatch):
    monkeypatch.setattr(site, "run", lambda *_, **__: good)
    assert site.dispatch(site.parse(["run"])) == (0 if good else 1)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_killed_in_the_middle_it_leaves_no_kernel_and_resumes(tmp_path):
    project = make_project(tmp_path / "project", n01_good=WAITS)
    code = f"from press import runner; from pathlib import Path; \
        runner.run(runner.Project(Path({str(project.root)!r}), 'smoke'))"
    process, pid = subprocess.Popen([sys.executable, "-c", code]), project.root / "pid"
    wait_until(lambda: process.poll() is not None or (pid.exists() and pid.read_text()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(int(pid.read_text())))
    assert not project.executed("01_good").exists()
    (project.root / "go").touch()
    assert runner.run(project)
    assert cell(project, "a", "01_good")["outputs"][0]["text"] == ["went\n"]
    assert [path.name for path in project.executed("").parent.iterdir()] == ["01_good.ipynb"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_an_interrupt_ends_it_soon_says_what_is_kept_and_leaves_no_kernel(tmp_path):
    project = make_project(tmp_path / "project", n01_good=WAITS)
    code = f"""if True:
        import sys
        from functools import partial
        from pathlib import Path
        from press import site
        site.Project = partial(site.Project, Path({str(project.root)!r}))
        sys.argv = ["press", "book", "--profile", "smoke"]
        sys.exit(site.main())"""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    command, pid = [sys.executable, "-c", code], project.root / "pid"
    with subprocess.Popen(command, preexec_fn=heard, **pipe) as process:
        try:
            wait_until(lambda: process.poll() is not None or (pid.exists() and pid.read_text()))
            process.send_signal(signal.SIGINT)
            shown, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert shown.splitlines()[-1] == (
        "Stopped; what is finished is kept, and the next run goes on from there."
    )
    assert "Traceback" not in shown
    assert process.returncode == 130
    wait_until(lambda: not alive(int(pid.read_text())))


def test_a_second_build_says_that_it_waits_and_then_finds_all_done(tmp_path):
    project = make_project(tmp_path / "project", n01_good=WAITS)
    code = f"from press import runner; from pathlib import Path; \
        print(runner.run(runner.Project(Path({str(project.root)!r}), 'smoke')))"
    command, pipe = [sys.executable, "-c", code], {"stdout": subprocess.PIPE, "text": True}
    first, pid = subprocess.Popen(command, **pipe), project.root / "pid"
    wait_until(lambda: first.poll() is not None or (pid.exists() and pid.read_text()))
    second = subprocess.Popen(command, **pipe)
    assert second.stdout.readline() == "Another build of profile 'smoke' is at work: waiting for it.\n"
    (project.root / "go").touch()
    assert first.communicate()[0].endswith("True\n")
    assert second.communicate()[0] == "01_good  up to date\nTrue\n"


def test_the_lock_of_one_profile_leaves_the_others_free(tmp_path):
    project = make_project(tmp_path / "project", n01_good=GOOD)
    with (
        runner.profile_lock(project),
        runner.profile_lock(runner.Project(project.root, "laptop")),
        project.private("lock").open("w") as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with runner.profile_lock(project):
        pass


def test_the_latest_piece_of_progress(tmp_path):
    path = tmp_path / "progress"
    running = runner.Running(time.monotonic(), None, tmp_path)
    assert runner.status("01_a", running) == "01_a  00:00"
    path.write_text("teacher 10%|█\rteacher 20%|██\rstudent " + "é" * 200 + "\r")
    assert runner.status("01_a", running) == "01_a  00:00  student " + "é" * 200
    path.write_text("x" * 5000 + "\r\n last \r \n")
    assert runner.status("01_a", running) == "01_a  00:00  last"


def watched(monkeypatch, tmp_path, *, terminal):
    """What the terminal shows of two notebooks, the second of which ends after two looks."""

    class Screen(io.StringIO):
        def isatty(self):
            return terminal

    (tmp_path / "progress").write_text("student 3/8\r")
    first, second = Future(), Future()
    running = {
        "01_a": runner.Running(time.monotonic() - 65, 130.0, tmp_path),
        "02_b": runner.Running(time.monotonic() - 5, None, tmp_path / "none"),
    }
    looks = iter([(set(), {first, second}), ({second}, {first}), ({first}, set())])
    monkeypatch.setattr(runner, "wait", lambda *_, **__: next(looks))
    monkeypatch.setattr(sys, "stdout", shown := Screen())
    for name, _ in runner.watch({first: "01_a", second: "02_b"}, running):
        print(name, "ended")
    return shown.getvalue()


def test_a_terminal_line_is_rewritten(monkeypatch, tmp_path):
    line = "01_a  01:05 of about 02:10  student 3/8\n"
    assert watched(monkeypatch, tmp_path, terminal=True) == (
        f"{line}02_b  00:05\n\x1b[2A\x1b[J02_b ended\n{line}\x1b[1A\x1b[J01_a ended\n"
    )


def test_elsewhere_lines_come_now_and_then(monkeypatch, tmp_path):
    line = "01_a  01:05 of about 02:10  student 3/8\n"
    assert (
        watched(monkeypatch, tmp_path, terminal=False)
        == f"{line}02_b  00:05\n02_b ended\n01_a ended\n"
    )


def test_expected_time_comes_from_the_last_run_else_from_the_profile(first):
    times = json.loads(first[0].private("times.json").read_text())
    assert list(times) == ["01_good"]
    jobs, _ = runner.plan(runner.Project(first[0].root, "laptop"), parameters={"dataset": "digits"})
    assert [job.seconds for job in jobs] == [75, None, None, None]
