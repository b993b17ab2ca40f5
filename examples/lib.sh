# Functions that the scripts share. Source this file.

library=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) # its folder

# die MESSAGE: prints one error and exits.
die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# usage: prints the comment at the head of the running script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# options "NAME ..." ARGUMENTS...: sets a variable for every --NAME VALUE, with _ for - in its name.
# With -- as the last NAME, the arguments after a -- go into the array `rest`.
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

# positive NAME...: exits unless all these options are positive integers.
positive() {
  local name value
  for name in "$@"; do
    value=${name//-/_}
    [[ ${!value} =~ ^[1-9][0-9]{0,8}$ ]] || die "--$name is ${!value}, it must be a positive integer of up to 9 digits"
  done
}

# yes_or_no NAME...: exits unless all these options are yes or no.
yes_or_no() {
  local name value
  for name in "$@"; do
    value=${name//-/_}
    [[ ${!value} =~ ^(yes|no)$ ]] || die "--$name is ${!value}, it must be yes or no"
  done
}

# bpe_size DEFAULT: checks the options --bpe, --merges and --vocabulary, and sets the array `size` to
# what prepare.sh needs of them.
bpe_size() {
  local option=merges other=vocabulary
  size=()
  case $bpe in
    subword_nmt) ;;
    sentencepiece) option=vocabulary other=merges size=(--bpe sentencepiece) ;;
    *) die "--bpe is $bpe, it must be subword_nmt or sentencepiece" ;;
  esac
  [[ ! ${!other} ]] || die "--$other is ${!other}, it must be left out: --bpe $bpe has --$option"
  [[ ${!option} ]] || printf -v "$option" %s "$1"
  positive "$option"
  size+=("--$option" "${!option}")
}

# once FILE VALUE: prints what FILE has; at first VALUE, which it then has.
once() {
  mkdir -p "${1%/*}"
  [[ -e $1 ]] || echo "$2" >"$1"
  cat "$1"
}

# headline NUMBER TITLE: prints the head of one of the script's $steps parts.
headline() { echo "== [$1/$steps, $(clock)] $2"; }

# activate [EXTRAS]: installs the project in $VENV, by default .venv beside examples, and has the script use
# it; sets `venv` to the folder and starts the clock anew.
activate() {
  venv=${VENV:-${library%/*}/.venv}
  bash "$library/install.sh" "$venv" "$@"
  PATH=$(cd "$venv/bin" && pwd):$PATH
  export PYTHONUNBUFFERED=1
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) > 1 ? 2 : 1))} # more do not pay in networks this small
  SECONDS=0
}

# alone FOLDER: makes the folder and locks it until the script and its commands end; waits while
# another script has it.
alone() {
  local lock
  [[ $1 ]] || die "the name of the output folder is empty"
  mkdir -p "$1"
  exec {lock}>"$1/.script.lock"
  flock -n "$lock" && return
  (($? == 1)) || return 0 # some network file systems have no locks
  echo "waiting for another script that writes to $1"
  flock "$lock"
}

# step NAME TITLE FUNCTION: runs a function on the folder $out/NAME unless it has been run to its end before.
step() {
  [[ -e $out/$1.done ]] && return
  echo "[prepare, $(clock)] $2"
  mkdir -p "$out/$1"
  "$3" "$out/$1"
  touch "$out/$1.done"
}

# learn_codes RAW...: the steps that learn $vocabulary pieces from raw files, or tokenise and learn $merges
# merges, by the script's functions `tokenise` and `learn_bpe`.
learn_codes() {
  raw=("$@")
  if [[ $bpe == sentencepiece ]]; then
    step codes "learning $vocabulary pieces" learn_pieces
  else
    step tok "Moses tokenisation" tokenise
    step codes "learning $merges BPE merges" learn_bpe
  fi
}

learn_pieces() {
  quietly "$log" python "$library/pieces.py" learn "$1/sentencepiece.bpe.model" "$vocabulary" "${raw[@]}"
}

# apply_codes RAW TOKENS OUTPUT: splits the raw file into pieces, or the file of its tokens by merges.
apply_codes() {
  if [[ $bpe == sentencepiece ]]; then
    quietly "$log" python "$library/pieces.py" encode "$out/codes/sentencepiece.bpe.model" "$1" "$3" \
      --workers "$workers"
  else
    quietly "$log" subword-nmt apply-bpe --codes "$out/codes/codes" --num-workers "$workers" \
      --input "$2" --output "$3"
  fi
}

# export_model CHECKPOINT [OPTIONS]: exports a model to the folder $work/exported, unless it is there, with the
# codes and the text processing of --bpe; OPTIONS go with Moses alone. Sets `exported`.
export_model() {
  local codes=$work/prepared/codes/codes processing=(--moses "${@:2}")
  [[ $bpe == subword_nmt ]] || codes=$work/prepared/codes/sentencepiece.bpe.model processing=()
  exported=$work/exported
  [[ -e $exported ]] ||
    quietly "$work/export.log" dartsformer-export "$1" -o "$exported" --data "$work/prepared/data-bin" \
      --codes "$codes" "${processing[@]}"
}

# train FOLDER UPDATES ARGUMENTS...: runs fairseq-train on the array `dataset` with $seed, for at most $minutes, unless
# it has been run before for as many updates, or until a time limit as late; resumes from the last checkpoint,
# shows progress and keeps the log. First removes the results of an earlier end, the paths in the array `later`.
train() {
  local folder=$1 updates=$2 status=0 result made=0 limit=''
  [[ -e $folder/done ]] && read -r made _ limit <"$folder/done"
  # Fewer updates or minutes are no reason to remove what came of more.
  ((updates <= made)) && { [[ ! $limit ]] || ((minutes <= limit)); } && return
  for result in "${later[@]}"; do
    [[ -e $result ]] && echo "   removing $result, made from an earlier checkpoint" && rm -r "$result"
  done
  rm -f "$folder/done"
  mkdir -p "$folder"
  fairseq-train "${dataset[@]}" \
    --save-dir "$folder" --tensorboard-logdir "$folder/tensorboard" --seed "$seed" --num-workers 0 \
    --no-epoch-checkpoints --keep-interval-updates 1 --log-format simple --log-interval 50 \
    --max-update "$updates" --stop-time-hours "$(awk "BEGIN { print $minutes / 60 }")" "${@:3}" 2>&1 |
    tee -a "$folder/train.log" | progress || status=$?
  ((status == 0)) && [[ -e $folder/checkpoint_last.pt ]] || fail "$folder/train.log" fairseq-train "$status"
  if tail -n 50 "$folder/train.log" | grep -q 'due to cumulative_training_time'; then
    updates+=" in $minutes"
  fi
  echo "$updates" >"$folder/done"
}

# progress: prints one short line for each report in fairseq's log.
progress() {
  local line
  while IFS= read -r line; do
    if [[ $line =~ \ loss=([^,]+),.*\ wps=([^,]+),.*\ num_updates=([^,]+), ]]; then
      echo "   [$(clock)] update ${BASH_REMATCH[3]}: loss ${BASH_REMATCH[1]}, ${BASH_REMATCH[2]} words/s"
    elif [[ $line =~ \|\ valid\ on\ .*\ ppl\ ([^ ]+) ]]; then
      echo "   validation: perplexity ${BASH_REMATCH[1]}"
    elif [[ $line =~ Loaded\ checkpoint\ .*\ @\ ([0-9]+)\ updates ]]; then
      echo "   resuming from update ${BASH_REMATCH[1]}"
    elif [[ $line =~ Stopping\ training\ due\ to\ cumulative_training_time ]]; then
      echo "   stopped by the time limit of $minutes minutes"
    fi
  done
}

# rows TABLE: prints how many rows a CSV file has.
rows() { [[ -e $1 ]] && echo $(($(wc -l <"$1") - 1)) || echo 0; }

# complete TABLE ROWS COMMAND...: runs a command in $jobs workers, each of which adds rows to the table, until
# the table has its rows; waits for runs that other starts hold. As children of xargs, workers end at an
# interruption.
complete() {
  local line
  while (($(rows "$1") < $2)); do
    seq "$jobs" | xargs -I WORKER -P "$jobs" "${@:3}" |
      while IFS= read -r line; do
        [[ $line == 'held by'* ]] || echo "   [$(clock), $(rows "$1") of $2] $line"
      done || die "a run failed; the same command tries it again"
    (($(rows "$1") == $2)) || sleep 5
  done
}

# hypotheses FILE: prints the best translations in fairseq-generate's output, in test set order.
hypotheses() { sed -n 's/^H-//p' "$1" | sort -n | cut -f 3; }

# clock: prints the time since the script started.
clock() { printf '%02d:%02d:%02d' $((SECONDS / 3600)) $((SECONDS / 60 % 60)) $((SECONDS % 60)); }

# fail LOG COMMAND STATUS: prints the tail of a failed command's log and exits. Leaves out fairseq's
# notes of shared parameters, dozens in a search, which are of biases that do not exist.
fail() {
  sed '/detected shared parameter/d' "$1" | tail -n 25 >&2
  die "$2 failed with status $3; the log: $1"
}

# quietly LOG COMMAND...: runs a command, appends its output to LOG, exits if it fails.
quietly() {
  local status=0
  "${@:2}" >>"$1" 2>&1 || status=$?
  ((status == 0)) || fail "$1" "${*:2}" "$status"
}

# need COMMAND...: exits unless all commands are installed.
need() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null ||
      die "$command not found: activate the environment that examples/install.sh makes"
  done
}

# same_options FILE OPTIONS [RESULT]: exits if RESULT (default: FILE's folder) exists and FILE records
# other options for it; otherwise writes the options to FILE.
same_options() {
  local result=${3:-${1%/*}}
  if [[ -e $result && -e $1 && $(<"$1") != "$2" ]]; then
    die "$result was made with other options ($(<"$1"); now: $2): remove it or choose another folder"
  fi
  mkdir -p "${1%/*}"
  echo "$2" >"$1"
}

# same_text CHECKSUM OPTIONS: as same_options, of the text that $out is prepared from, wherever it lies.
same_text() {
  [[ -e $out/text.done ]] || rm -f "$out/prepare.options"
  # Earlier versions wrote the path of the text, too.
  [[ ! -e $out/prepare.options ]] || sed -Ei 's/^--text .* \(([0-9]+ [0-9]+)\)/text with checksum \1/' "$out/prepare.options"
  same_options "$out/prepare.options" "text with checksum $1 $2"
}
