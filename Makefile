# Everything runs in .venv, made on first use from nothing but Python 3.10+ and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# An exact pin: on machines whose index has a CPU build, pip takes that; a range takes CUDA's.
TORCH ?= torch==2.13.0
DEMO ?= artifacts/demo

.PHONY: lock sbom install demo demo-training test test-all mutation lint check coverage format docs bench bench-speed tables clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# A first look: invented articles tagged by the tagger that ships.
demo: install
	$(BIN)/studytag demo --output $(DEMO)

# From invented articles to a scored bundle, with no model hub and no PubMed: trains for minutes.
demo-training: install
	@echo "== studytag demo: SYNTHETIC articles, written by a generator; figures say nothing of real ones"
	$(BIN)/studytag data demo --output $(DEMO)/articles.jsonl --articles 3000
	$(BIN)/studytag data build $(DEMO)/articles.jsonl --output $(DEMO)/processed > $(DEMO)/data-card.txt
	$(BIN)/accelerate launch --quiet --num_processes 1 --mixed_precision no train --config demo
	$(BIN)/python export --model $(DEMO)/model/best --validation $(DEMO)/processed/val.parquet --output $(DEMO)/bundle
	$(BIN)/python infer $(DEMO)/processed/test.parquet $(DEMO)/tagged.csv --bundle $(DEMO)/bundle
	$(BIN)/studytag evaluate $(DEMO)/processed/test.parquet --bundle $(DEMO)/bundle --output $(DEMO)/test-metrics.json
	@echo "== these articles are SYNTHETIC. Data card: $(DEMO)/data-card.txt  model: $(DEMO)/model/best"
	@echo "== bundle: $(DEMO)/bundle  tagged test articles: $(DEMO)/tagged.csv  scores: $(DEMO)/test-metrics.json"

# A process a core; a file's tests stay together and share its fixtures.
PARALLEL := -n auto --dist loadfile

test: install
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# The slow ones start engines and processes of their own, so they run one after the other.
test-all: test
	$(BIN)/python -m pytest -m slow

# Which small changes of the code that decides does no test notice? [tool.mutmut] says of what.
mutation: install
	$(BIN)/pip install --quiet --disable-pip-version-check 'mutmut>=3.8'
	$(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# Every test, slow ones included, with the floor of coverage.
coverage: install
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m pytest -m slow --cov --cov-append --cov-report=term

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A warning is an error, also of a link that leads nowhere.
docs: install
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

# What the benchmarks need beside; bench/README.md says which command answers which question.
bench: install
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@cat bench/README.md

# Every contender on this machine, on real articles and a trained model; results are named after the
# processor. Most of the time goes into what is slower than studytag.
ARTICLES ?= 200
SOURCE ?= data/processed/test.parquet
MODEL ?= artifacts/model/best
BUNDLE ?= artifacts/bundle
TRAIN ?= data/processed/train.parquet
VALIDATION ?= data/processed/val.parquet

bench-speed: bench
	$(BIN)/python -m bench.speed contenders --source $(SOURCE) --model $(MODEL) --articles $(ARTICLES) \
	  --tables $(TRAIN) $(VALIDATION)
	$(BIN)/python -m bench.speed contenders --source $(SOURCE) --model $(MODEL) --distilbert --articles $(ARTICLES)
	$(BIN)/python -m bench.speed footprint --source $(SOURCE) --model $(MODEL)
	$(BIN)/python -m bench.speed cost --source $(SOURCE) --bundle $(BUNDLE)

# What is installed to serve, with versions and hashes: the same everywhere, checked by pip.
lock: install
	$(BIN)/uv pip compile pyproject.toml --extra serve --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --quiet --output-file requirements/serve.txt

# The bill of materials of what is served, in CycloneDX's format.
sbom: install
	mkdir -p artifacts
	$(BIN)/cyclonedx-py requirements requirements/serve.txt --output-file artifacts/sbom.json

# Every table of bench/results, from the predictions and measurements that are kept there.
tables: install
	$(BIN)/python -m bench.tables

clean:
	rm -rf $(VENV) build docs/_build docs/reference/modules *.egg-info .pytest_cache .mypy_cache .ruff_cache
