# make demo: install and reconstruct the embedded sample; make test: install and run the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/installed
	$(BIN)/python aseqdip_mri.py --accel 4 --quick
	@echo 'For the other commands of the README: . .venv/bin/activate'

test: .venv/tested
	$(BIN)/python -m pytest -n 2 tests

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
