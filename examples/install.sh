#!/usr/bin/env bash
# Installs the project and all it needs into a virtual environment, without root.
# usage: bash examples/install.sh VENV_DIR [EXTRAS]        (EXTRAS: dev, for the tests)
#
# A second call finds the work done and returns at once. Environment:
#   PYTHON  the interpreter to build on      (default: python3.11, python3.12, or a python3 from 3.10 to
#           3.12); 3.10 gets the official fairseq, which no later one imports; after 3.12 is untried
#   TORCH   the torch to install, such as torch==2.11.0    (default: torch==2.13.0)
#
# The order matters: fairseq-fixed is compiled on the spot and asks its build for torch, so torch
# comes first and the build is not isolated; an isolated one would fetch a second torch of several
# GB. Official fairseq is built in isolation: where it sees torch it misses files of its own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
  -h | --help) usage && exit ;;
  "" | -*) die "usage: bash examples/install.sh VENV_DIR [EXTRAS]" ;;
esac
(($# <= 2)) || die "unknown argument: $3"

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$1
extras=${2:+[$2]}
torch=${TORCH:-torch==2.13.0}

key=$(cat "$root/setup.py" "$root/examples/install.sh" - <<<"$torch $extras $root" | sha256sum)
stamp=$venv/.installed${2:+-$2}
[[ -f $stamp && $(<"$stamp") == "$key" ]] && exit

find_python() {
  local python before='(3, 13)' # of which nobody has seen whether it works: it has to be named
  [[ -z ${PYTHON:-} ]] || before='(4,)'
  for python in ${PYTHON:-python3.11 python3.12 python3}; do
    "$python" -c "import sys; sys.exit(not (3, 10) <= sys.version_info < $before)" 2>/dev/null &&
      echo "$python" && return
  done
  die "Python 3.10, 3.11 or 3.12 is needed: name one with PYTHON=/path/to/python3.11 (or a later one, untried)"
}

check_compiler() {
  local headers
  headers=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  command -v "${CXX:-g++}" >/dev/null && [[ -f $headers/Python.h ]] ||
    die "compiling fairseq needs g++ and the headers of $1 (Debian: g++ and python3-dev)"
}

step() { # step NUMBER TITLE COMMAND...
  echo "[install $1/4, $(clock)] $2"
  quietly "$log" "${@:3}"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check install --constraint "$constraints" "$@"; }

python=$(find_python)
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  die "$python cannot make virtual environments (Debian: python3-venv)"
check_compiler "$python"
fairseq=(--no-build-isolation fairseq-fixed==0.12.3.1)
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fairseq=(fairseq==0.12.2)
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$venv"

log=$venv/install.log
constraints=$venv/constraints.txt
: >"$log" >"$constraints"
step 1 "$torch" pip "$torch"
# No later step may fetch another torch.
"$venv/bin/python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$constraints"
step 2 "build tools" pip "setuptools<81" wheel cython numpy
step 3 "${fairseq[-1]} (compiled here: one to four minutes)" pip "${fairseq[@]}"
step 4 "fairseq-dartsformer$extras" pip --no-build-isolation --editable "$root$extras"
echo "$key" >"$stamp"
echo "[install, $(clock)] done: $venv"
