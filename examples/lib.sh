# What the scripts of this folder share. Sourced, never run.

# die MESSAGE: one clear error, and the end.
die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# usage: prints the comment at the head of the running script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# options "NAME ..." ARGUMENTS...: sets a variable, with _ for -, for every --NAME VALUE. With -- as
# the last NAME, what follows a -- goes into the array `rest`.
options() {
  local known=" $1 " name
  shift
  rest=()
  while (($#)); do
    [[ $1 == -h || $1 == --help ]] && usage && exit
    if [[ $1 == -- && $known == *" -- "* ]]; then
      rest=("${@:2}")
      return
    fi
    name=${1#--}
    [[ $1 == --* && $known == *" $name "* ]] || die "unknown option: $1 (see --help)"
    (($# > 1)) || die "$1 needs a value (see --help)"
    printf -v "${name//-/_}" %s "$2"
    shift 2
  done
}

# positive NAME...: the error that one of these options is no positive number.
positive() {
  local name value
  for name in "$@"; do
    value=${name//-/_}
    [[ ${!value} =~ ^[1-9][0-9]*$ ]] || die "--$name is ${!value}, it must be a positive whole number"
  done
}

# hypotheses FILE: the best translations in fairseq-generate's output, in the test set's order.
hypotheses() { sed -n 's/^H-//p' "$1" | sort -n | cut -f 3; }

# clock: the time since the script's start.
clock() { printf '%02d:%02d:%02d' $((SECONDS / 3600)) $((SECONDS / 60 % 60)) $((SECONDS % 60)); }

# fail LOG WHAT STATUS: the end of a step that failed, with the tail of its log.
fail() {
  tail -n 25 "$1" >&2
  die "$2 failed with status $3; the whole log: $1"
}

# quietly LOG COMMAND...: runs a command with its output in LOG.
quietly() {
  local status=0
  "${@:2}" >>"$1" 2>&1 || status=$?
  ((status == 0)) || fail "$1" "${*:2}" "$status"
}

# need COMMAND...: the error that one of the commands is not installed.
need() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null ||
      die "$command not found: activate the environment that examples/install.sh makes"
  done
}

# same_options FILE OPTIONS [RESULT]: a result, by default FILE's folder, serves one set of options;
# FILE remembers which.
same_options() {
  local result=${3:-${1%/*}}
  if [[ -e $result && -e $1 && $(<"$1") != "$2" ]]; then
    die "$result was made with other options ($(<"$1"); now: $2): remove it or choose another folder"
  fi
  mkdir -p "${1%/*}"
  echo "$2" >"$1"
}
