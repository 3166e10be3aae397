# One line per verb; continuous integration (.ci/run) runs the same commands.
BIN ?= .venv/bin/
.PHONY: setup constraints check test test-all pages docs notebooks bench report

setup: ; python -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ".[dev]"
# The newest releases of all that we depend on, for every Python; torch and what comes with it are
# left out, because its builds differ from machine to machine.
constraints:
	$(BIN)uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate \
	  --extra dev --extra export --extra torch --extra dask --extra serve --extra parquet --extra measure \
	  pyproject.toml > constraints.all
	{ echo "# Written by 'make constraints'."; grep -vE '^(torch|triton|nvidia-|cuda-)' constraints.all; } > constraints.txt
	rm constraints.all
check: ; $(BIN)ruff check . && $(BIN)ruff format --check . && $(BIN)mypy && $(BIN)lint-imports && $(BIN)codespell
test: ; $(BIN)pytest -q
test-all: ; $(BIN)pytest -q -n auto -m "slow or not slow"
pages: ; $(BIN)python docs/studies/reference_pages.py
docs: ; $(BIN)sphinx-build -W -b html docs docs/_build
notebooks: ; $(BIN)pytest -q --nbmake notebooks
bench: ; $(BIN)pytest -q -m slow tests/conformance --durations=0
report: ; $(BIN)moe2opt solve mmlu_pro_edge --out results && $(BIN)moe2opt report results --grid
