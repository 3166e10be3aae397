# One line per verb; continuous integration (.ci/run) runs the same commands.
BIN ?= .venv/bin/
.PHONY: setup check test test-all docs notebooks bench report

setup: ; python -m venv .venv && .venv/bin/pip install -q -e ".[dev]"
check: ; $(BIN)ruff check . && $(BIN)ruff format --check . && $(BIN)mypy && $(BIN)lint-imports && $(BIN)codespell
test: ; $(BIN)pytest -q
test-all: ; $(BIN)pytest -q -n auto -m "slow or not slow"
docs: ; if [ -f docs/conf.py ]; then $(BIN)sphinx-build -W -b html docs docs/_build; else echo "docs/ holds plain Markdown"; fi
notebooks: ; if ls notebooks/*.ipynb >/dev/null 2>&1; then $(BIN)pytest -q --nbmake notebooks; else echo "no notebook"; fi
bench: ; $(BIN)pytest -q -m slow tests/conformance --durations=0
report: ; $(BIN)moe2opt solve mmlu_pro_edge --out results && $(BIN)moe2opt report results --grid
