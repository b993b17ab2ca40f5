#!/usr/bin/env bash
# Converts the archives of a data set to fairseq's binary data (Section 3.1): text, Moses normalisation
# and tokenisation, joint BPE, pairs of at most 250 tokens, 3,300 of them for validation.
#
# usage: bash examples/wmt/2-prepare.sh [options]
#
#   --data NAME          the data set, as for 1-download.sh (default: wmt14.en-de)
#   --work FOLDER        folder for all output (default: wmt); this step writes to WORK/data/NAME
#   --archives FOLDER    folder of the archives (default: WORK/archives)
#   --table FILE         table of archives (default: archives.tsv)
#   --merges N           BPE merges (default: 40000 for En-Fr, otherwise 32000)
#   --max-ratio R        largest ratio of lengths (default: 1.5 for En-Fr, otherwise 250: no limit)
#   --held-out N         pairs for validation (default: 3300; 0: newstest2013 instead)
#   --workers N          processes (default: the number of cores)
#
# After an interruption the same command continues with the first step that has not finished.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=wmt14.en-de work=wmt archives='' table=$here/archives.tsv
merges='' max_ratio='' held_out=3300 workers=$(nproc)
options "data work archives table merges max-ratio held-out workers" "$@"
need python
out=$work/data/$data
[[ $data == *.en-fr ]] && defaults=(40000 1.5) || defaults=(32000 250)
merges=${merges:-${defaults[0]}} max_ratio=${max_ratio:-${defaults[1]}}
positive merges workers
[[ $max_ratio =~ ^[1-9][0-9]*(\.[0-9]+)?$ ]] || die "--max-ratio is $max_ratio, it must be a number from 1"
[[ $held_out =~ ^[0-9]+$ ]] || die "--held-out is $held_out, it must be an integer from 0"

if [[ ! -e $out/extracted ]]; then
  echo "[wmt, $(clock)] text of $data"
  python "$here/corpora.py" extract "$data" --archives "${archives:-$work/archives}" --table "$table" \
    --out "$out/text"
  touch "$out/extracted"
fi
[[ -e $out/tok.done ]] || rm -f "$out"/{,prepare.}options # the text does not depend on them
same_options "$out/options" "--merges $merges --max-ratio $max_ratio --held-out $held_out"
[[ ! -e $out/data-bin.done ]] || exit 0
bash "$root/examples/prepare.sh" --text "$out/text" --out "$out" --source-lang en --target-lang "${data##*-}" \
  --merges "$merges" --max-ratio "$max_ratio" --max-tokens 250 --held-out "$held_out" --workers "$workers"
