# make book     set up, execute every notebook, leave the site in _build/html/index.html
# make test     set up and run every test, in two processes
# make smoke    the whole book on embedded data, minutes        make lab     JupyterLab on the notebooks
# make lint     style of code and notebooks                     make serve   read the book at http://localhost:8000
# make bench    speed of the engine, also _build/bench.csv      make clean   forget everything that was built
# make readme   the README's figure, from the book that was built last
# make bundle   the explorers' scripts as pages get them, after a change of their sources (needs node and a network)
# make laboratory      the runs behind the laboratory's shaded band and its recorded run, minutes (needs node)
# make why NAME=02     what changed since that notebook ran     make browser  the Chromium of the browser tests
# make reference NAME=03         the runs that the verdicts rest on: many models, hours; book/reference/results keeps them
# make pdf      the whole book as one PDF, from the same pages (needs a Chromium)     make setup   only set up
# make student  the exercises without solutions, in notebooks/exercises       make instructor   with them, in _build
# make slides   a talk of each executed chapter, in _build/slides             make otter      for an autograder
# make diff A=FOLDER B=FOLDER    what moved between two folders of results, and which verdicts flipped
#
# PROFILE=paper chooses a profile of profiles.yml, JOBS=2 runs two notebooks at a time, and ARGS passes the rest:
# make book ARGS="--only 02 -p models=4". PYTHON=python3.12 chooses the interpreter that `.venv` is made of.

PYTHON ?= python3
PROFILE ?= laptop
JOBS ?= 1
PORT ?= 8000
BIN := .venv/bin
# Ready for this folder only: a copied or moved checkout would otherwise import from where it was made.
READY := .venv/ready-$(firstword $(shell pwd -P | cksum))
# Without kernels of the name python3 from elsewhere.
OWN_KERNEL := JUPYTER_PATH= JUPYTER_PREFER_ENV_PATH=1
PRESS := $(BIN)/python -I -m press

.PHONY: student instructor slides otter book smoke pdf setup run why reference diff test lint lab serve bench clean browser pins readme bundle laboratory

book: $(READY)
	$(PRESS) book --profile $(PROFILE) --jobs $(JOBS) $(ARGS)

# Short notebooks mostly wait for imports: two at a time take half as long.
smoke: JOBS = 2
smoke: $(READY)
	$(PRESS) book --profile smoke --jobs $(JOBS) $(ARGS)

pdf: $(READY)
	$(PRESS) pdf --profile $(PROFILE) --jobs $(JOBS) $(ARGS)

setup: $(READY)

run: $(READY)
	$(PRESS) run --profile $(PROFILE) --jobs $(JOBS) $(ARGS)

why: $(READY)
	@$(PRESS) why $(NAME) --profile $(PROFILE) $(ARGS)

reference: $(READY)
	$(PRESS) reference $(NAME) --jobs $(JOBS) --require-data $(ARGS)

diff: $(READY)
	@$(PRESS) diff $(A) $(B)

# Threads that wait for another process do not spin.
test: export OMP_WAIT_POLICY ?= passive
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: $(READY)
	$(BIN)/ruff check lib tests notebooks
	$(BIN)/ruff format --check lib
	$(BIN)/python -m nbstripout --verify --keep-id notebooks/*.ipynb notebooks/template/*.ipynb
	@if command -v npx >/dev/null; then npx --yes @biomejs/biome@2.6.8 check; \
	  else echo "There is no npx: the JavaScript was not checked." >&2; fi

lab: $(READY)
	$(OWN_KERNEL) $(BIN)/python -m jupyterlab --notebook-dir=notebooks $(ARGS)

serve: $(READY)
	@test -f _build/html/index.html || { echo "There is no book yet: run 'make book' first." >&2; exit 1; }
	@echo "The book: http://localhost:$(PORT)/  (Ctrl-C ends this)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

DIGITS := $(BIN)/python -c "import json; from sublearn.explorers.widgets import packed_digits; \
  print(json.dumps(packed_digits()))"

bench: $(READY)
	$(BIN)/python tests/bench.py $(ARGS)
	@if command -v node >/dev/null; then $(DIGITS) | node tests/explorers/bench.mjs; \
	  else echo "There is no node: the laboratory's speed was not measured." >&2; fi

readme: $(READY)
	$(BIN)/python -c "import json; cells = json.load(open('_build/executed/laptop/02_mnist_replication.ipynb'))['cells']; \
	  print(next(''.join(o['data']['image/svg+xml']) for c in cells for o in c.get('outputs', []) \
	  if 'image/svg+xml' in o.get('data', {})), end='')" > book/_static/readme.svg

# First what other sources import: the product as WebAssembly in base 64, and the worker's program as text. Then one
# script for each explorer, which puts itself into a constant of the page (each has what it imports in
# it). The digests, written last, let a test without node see what has changed since.
JS := lib/sublearn/explorers/js
ASC := npx --yes --package=assemblyscript@0.28.9 asc -O3 --enable simd --runtime stub --importMemory
ESBUILD := npx --yes esbuild@0.28.2 --log-level=warning --minify --charset=utf8 --target=es2022
bundle:
	cd $(JS) && set -e; \
	$(ASC) multiply.ts --outFile dist/multiply.wasm; \
	$(ESBUILD) dist/multiply.wasm --loader:.wasm=base64 --format=esm --outfile=dist/multiply.js; \
	$(ESBUILD) worker.js --bundle --format=iife --outfile=dist/worker.txt; \
	$(ESBUILD) dist/worker.txt --loader:.txt=text --format=esm --outfile=dist/worker.js; \
	$(ESBUILD) page.js --bundle --format=iife --global-name=page --outfile=dist/page.js; \
	for name in cuts laboratory lists noise partners parts plane results step; do \
	  echo "import { address, render } from './$$name.js'; explorers.$$name = { address, render };" \
	  | $(ESBUILD) --bundle --format=iife --outfile=dist/$$name.js; done; \
	$(ESBUILD) explorers.css --outfile=dist/explorers.css; \
	rm dist/multiply.wasm dist/worker.txt; \
	LC_ALL=C; export LC_ALL; sha256sum *.* dist/*.js dist/*.css > dist/SHA256SUMS

SEEDS := $(shell seq -s, 1 40)
laboratory: $(READY)
	$(DIGITS) | node tests/explorers/runs.mjs '{"seeds": [$(SEEDS)], "every": 50}' > _build/laboratory.csv
	mv _build/laboratory.csv book/reference/laboratory.csv
	$(DIGITS) | node tests/explorers/record.mjs > _build/laboratory-run.json
	mv _build/laboratory-run.json book/reference/laboratory-run.json

student: $(READY)
	$(BIN)/python -I -m press.exercises student notebooks/exercises
	$(BIN)/python -I -m press.exercises draw notebooks/exercises/pictures

instructor: $(READY)
	$(BIN)/python -I -m press.exercises instructor _build/instructor
	cp notebooks/exercises/checks.py _build/instructor
	$(BIN)/python -I -m press.exercises draw _build/instructor/pictures

otter: $(READY)
	$(BIN)/python -I -m press.exercises otter _build/otter

# reveal.js is fetched once; the slides themselves need no network.
slides: $(READY) _build/slides/reveal
	$(BIN)/python -I -m press.slides --profile $(PROFILE) $(ARGS)

_build/slides/reveal:
	@command -v npm >/dev/null || { echo "npm is needed once, to fetch reveal.js." >&2; exit 1; }
	@mkdir -p _build/slides && cd _build/slides && npm pack --silent reveal.js@5.2.1 >/dev/null
	@cd _build/slides && tar -xzf reveal.js-5.2.1.tgz && mkdir reveal.new && mv package/dist/* package/LICENSE reveal.new
	@cd _build/slides && rm -r package reveal.js-5.2.1.tgz && mv reveal.new reveal

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

browser: $(READY)
	$(BIN)/python -m playwright install --with-deps chromium

# The environment, by uv: the one on PATH, else one installed into .venv.
UV = $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)

define VERSION
import sys
sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "$(PYTHON) is Python %d.%d, but this book needs 3.11, \
3.12 or 3.13: install one of them and name it, as in `make book PYTHON=python3.12`." % sys.version_info[:2])
endef
export VERSION

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c "$$VERSION"
	@command -v uv >/dev/null || $(PYTHON) -c "import ensurepip, venv" 2>/dev/null || { echo "$(PYTHON) has no venv \
	module: install it (Debian, Ubuntu: apt install python3-venv) or put uv on the PATH." >&2; exit 1; }
	@echo "Setting up .venv: 6 GB, a few minutes on a fast line."
	@if test -x $(BIN)/python; then :; elif command -v uv >/dev/null; then uv venv -q --python $(PYTHON) .venv; \
	else $(PYTHON) -m venv .venv; fi
	@test -x "$(UV)" || { $(BIN)/python -m ensurepip >/dev/null && $(BIN)/python -m pip install -qq uv; }
	@$(UV) pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@rm -f .venv/ready* && touch $@

# Compile the ranges of pyproject.toml to one file of pins for every system; it holds digests and no addresses.
pins: $(READY)
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --group book --group dev --group llm pyproject.toml -o requirements.txt
