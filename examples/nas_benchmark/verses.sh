#!/usr/bin/env bash
# A small table of the architecture benchmark on public text, the quick start's Bible verses from English
# to German: random genotypes, searches by darts, and the genotypes that they find, each trained alone.
#
# usage: bash examples/nas_benchmark/verses.sh OUT [options]
#
#   OUT                  folder for all output; gets verses.csv (random genotypes), verses-searches.csv
#                        and verses-found.csv (genotypes found)
#   --jobs N             runs side by side, a core each (default: 1)
#   --updates N          updates of a training, a multiple of 8 (default: 2000); a search has a quarter
#   --count N            random genotypes, 2 or more (default: 16)
#   --searches N         searches, with the seeds 1 to N (default: 3)
#
# Activate the environment of examples/install.sh first. After an interruption the same command continues
# with the last checkpoints. Several starts with the same OUT share the runs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
source "$root/examples/lib.sh"

case ${1:-} in
  -h | --help) usage && exit ;;
  "" | -*) die "usage: bash examples/nas_benchmark/verses.sh OUT [options] (see --help)" ;;
esac
out=$1 jobs=1 updates=2000 count=16 searches=3
options "jobs updates count searches" "${@:2}"
positive jobs updates count searches
((updates % 8 == 0)) || die "--updates is $updates, it must be a multiple of 8"
((count > 1)) || die "--count is $count, it must be 2 or more"
need python subword-nmt fairseq-preprocess
export PYTHONUTF8=1 PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
unset PYTHONUNBUFFERED # so that workers, which share a pipe, write complete lines

steps=5 # that have a headline
trap 'die "interrupted; run the same command to continue"' INT

benchmark() { python "$here/benchmark.py" "$@"; }

# prepare: the data and the list of random genotypes, by one start at a time.
prepare() {
  alone "$out"
  same_options "$out/options" "--updates $updates --count $count --searches $searches"
  [[ -e $out/text.done ]] || python "$root/examples/prepare_text.py" "$out/text" --target de
  touch "$out/text.done"
  python "$here/prepare.py" --text "$out/text" --source-lang en --target-lang de --out "$out/data" \
    --most-words 50 # with 20, too little text is left
  [[ -e $out/random.csv ]] || benchmark sample --count "$count" --seed 1 -o "$out/random.csv"
}

# runs TABLE ROWS COMMAND...: completes a table by a command of benchmark.py.
runs() { complete "$1" "$2" python "$here/benchmark.py" "${@:3}" --data "$out/data" --table "$1"; }

headline 1 "text and data"
(prepare) # whose lock ends with this subshell

headline 2 "random genotypes: $count, $updates updates each"
runs "$out/verses.csv" "$count" train "$out/random.csv" --out "$out/runs" --updates "$updates"

headline 3 "searches by darts: $searches, $((updates / 4)) updates each"
mapfile -t seeds < <(seq "$searches")
runs "$out/verses-searches.csv" "$searches" search darts --out "$out/searches" --updates $((updates / 4)) \
  --seeds "${seeds[@]}"

headline 4 "genotypes found: $searches, $updates updates each"
benchmark found "$out/verses-searches.csv" -o "$out/found.csv.$$"
mv "$out/found.csv.$$" "$out/found.csv"
runs "$out/verses-found.csv" "$searches" train "$out/found.csv" --out "$out/found" --updates "$updates"

headline 5 "result"
benchmark report --table "$out/verses.csv"
benchmark compare --random "$out/verses.csv" --searches "$out/verses-searches.csv" --found "$out/verses-found.csv"
