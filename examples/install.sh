#!/usr/bin/env bash
# Installs the project and its dependencies into a virtual environment, without root.
# usage: bash examples/install.sh VENV_DIR [EXTRAS]        (EXTRAS: export, for dartsformer-export; dev, for the tests)
#
# A second call returns at once. Environment:
#   PYTHON  the interpreter      (default: the first of python3.11, python3.12 and python3 that is
#           Python 3.11 or 3.12; later versions are untested)
#   TORCH   the torch to install, such as torch==2.11.0    (default: torch==2.13.0)
#
# The order matters: the build of fairseq-fixed needs torch, so torch is installed first and the build
# is not isolated; an isolated build would download a second torch of several GB.
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
  local python before='(3, 13)'
  [[ -z ${PYTHON:-} ]] || before='(4,)' # an untested version must be named
  for python in ${PYTHON:-python3.11 python3.12 python3}; do
    "$python" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < $before)" 2>/dev/null &&
      echo "$python" && return
  done
  die "Python 3.11 or 3.12 is needed: name one with PYTHON=/path/to/python3.11 (later versions are untested)"
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
fairseq=fairseq-fixed==0.12.3.1
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$venv"

log=$venv/install.log
constraints=$venv/constraints.txt
: >"$log" >"$constraints"
step 1 "$torch" pip "$torch"
# The constraint keeps later steps from replacing torch.
"$venv/bin/python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$constraints"
step 2 "build tools" pip "setuptools<81" wheel cython numpy
# Debug information takes more than a third of the compilation's time.
export CFLAGS="${CFLAGS:--O3 -DNDEBUG} -g0" CXXFLAGS="${CXXFLAGS:--O3 -DNDEBUG} -g0"
step 3 "$fairseq (compiled here: one to four minutes)" pip --no-build-isolation "$fairseq"
step 4 "fairseq-dartsformer$extras" pip --no-build-isolation --editable "$root$extras"
echo "$key" >"$stamp"
echo "[install, $(clock)] done: $venv"
