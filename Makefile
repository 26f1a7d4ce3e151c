# Every target sets up what it needs: a virtual environment with the pinned packages, then the project itself.
#   make demo      all neurons of the eight zoo models -> demo/atlas (dataset) and demo/site (pages)
#   make test      the tests, within 15 minutes on 2 cores;  make test-all adds the slow ones
#   make chaos     runs under drawn faults: twenty seeds
#   make lint      ruff, mypy, import-linter;                make bench  the benchmarks, as JSON
#   make docs      the documentation as a site, links checked -> build/docs

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-science test-rest test-all chaos lint bench docs serve constraints bundle clean browser

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r constraints.txt
	$(BIN)/python -m uv pip install --python $(BIN)/python --no-deps -e .
	@touch $@

demo: $(READY)
	$(BIN)/neuron-atlas demo --out demo

serve: $(READY)
	$(BIN)/neuron-atlas site serve demo/site

# Browser tests need Debian's chromium; they skip, loudly, where it cannot be had.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; } || \
	  echo "chromium and chromium-driver are not installed: browser tests will be skipped"

# Two halves at once, one for each of two cores; each half prints when it is done.
test: $(READY) browser
	@echo "Two halves at once; each prints when it is done, the first after some minutes."
	@$(MAKE) --no-print-directory -j2 -k --output-sync=target test-science test-rest

# what computes, what is seen and what is stored; what runs: about equally long
test-science: $(READY)
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" tests/pipeline tests/site_builder tests/atlas_schema

test-rest: $(READY)
	$(PYTEST) -m "not slow" --ignore=tests/pipeline --ignore=tests/site_builder --ignore=tests/atlas_schema tests

test-all: $(READY) browser
	$(PYTEST)

# Twenty atlases, each made by six runs under faults drawn from its seed, with damage between them; some minutes.
chaos: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.jobs.chaos --seeds 20

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.visualize --quick
	$(BIN)/python -m benchmarks.probe --quick
	$(BIN)/python -m benchmarks.decompose span --models zoo/clip --images 200

docs: $(READY)
	$(BIN)/python -m docs.make_site --out build/docs

# Names, versions and hashes; no addresses.
constraints:
	$(BIN)/python -m uv pip compile pyproject.toml --extra dev --extra docs --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --python-version 3.11 --universal -o constraints.txt

# The site's scripts and style, joined and minified, for the repository; needs node (npm), which no user does.
bundle: $(READY)
	$(BIN)/python -m site_builder.bundling

clean:
	rm -rf demo out build dist
