#!/usr/bin/env bash
# Installs the project into $VENV (.venv by default), then runs ruff, import-linter and pytest.
# usage: bash tests/run.sh [PYTEST OPTIONS]
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
bash examples/install.sh "$venv" dev
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/lint-imports"
export OMP_NUM_THREADS=1 # workers share the cores
exec "$venv/bin/python" -m pytest -n auto --maxprocesses 4 --dist worksteal tests/cpu tests/gpu "$@"
