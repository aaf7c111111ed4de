# make demo: install and reconstruct the embedded sample; make test: install and run the tests.
# make lint: ruff. make oldest: the tests with the oldest versions that requirements.txt allows.
# make gpu DATA=FOLDER OUT=FOLDER: measure what needs a GPU, FLAGS being those of scripts/gpu.sh.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint oldest gpu clean

demo: .venv/installed
	$(BIN)/python aseqdip_mri.py --accel 4 --quick
	@echo 'For the other commands of the README: . .venv/bin/activate'

test: .venv/tested
	$(BIN)/python -m pytest -n 2 tests

lint: .venv/tested
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

oldest: .venv-oldest/tested
	.venv-oldest/bin/python -m pytest -n 2 -W ignore::DeprecationWarning tests

gpu:
	@test -n "$(DATA)" -a -n "$(OUT)" || { echo 'error: say make gpu DATA=FOLDER OUT=FOLDER' >&2; exit 2; }
	PYTHON="$(or $(wildcard $(BIN)/python),$(PYTHON))" bash scripts/gpu.sh "$(DATA)" "$(OUT)" $(FLAGS)

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, got " + sys.version.split()[0] + "; say make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/tested: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

.venv-oldest/tested: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	sed 's/>=/==/' requirements.txt > .venv-oldest/versions.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-oldest/versions.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-oldest
