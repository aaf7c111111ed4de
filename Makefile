# make demo: install and reconstruct the embedded sample; make test: install and run the tests.
# make gpu DATA=FOLDER OUT=FOLDER: measure what needs a GPU, FLAGS being those of scripts/gpu.sh.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test gpu clean

demo: .venv/installed
	$(BIN)/python aseqdip_mri.py --accel 4 --quick
	@echo 'For the other commands of the README: . .venv/bin/activate'

test: .venv/tested
	$(BIN)/python -m pytest -n 2 tests

gpu:
	@test -n "$(DATA)" -a -n "$(OUT)" || { echo 'error: say make gpu DATA=FOLDER OUT=FOLDER' >&2; exit 2; }
	PYTHON="$(or $(wildcard $(BIN)/python),$(PYTHON))" bash scripts/gpu.sh "$(DATA)" "$(OUT)" $(FLAGS)

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, got " + sys.version.split()[0] + "; say make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pytest>=8' 'pytest-xdist>=3.5'
	touch $@

clean:
	rm -rf .venv
