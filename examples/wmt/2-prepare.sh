#!/usr/bin/env bash
# Converts the archives of a data set to fairseq's binary data (Section 3.1): text, Moses normalisation
# and tokenisation, joint BPE, pairs of at most 250 tokens, 3,300 of them for validation. IWSLT'14 as
# fairseq prepares it: no normalisation, lower-case tokens, its own limits and validation pairs.
#
# usage: bash examples/wmt/2-prepare.sh [options]
#
#   --data NAME          the data set, as for 1-download.sh (default: wmt14.en-de)
#   --work FOLDER        folder for all output (default: wmt); this step writes to WORK/data/NAME
#   --archives FOLDER    folder of the archives (default: WORK/archives)
#   --table FILE         table of archives (default: archives.tsv)
#   --merges N           BPE merges (default: 40000 for En-Fr, 10000 for IWSLT, otherwise 32000)
#   --max-ratio R        largest ratio of lengths in BPE tokens (default: 1.5 for En-Fr; otherwise
#                        no limit)
#   --held-out N         pairs for validation (default: 3300; 0: newstest2013 instead; of IWSLT, 0:
#                        every 23rd pair)
#   --workers N          processes (default: the number of cores)
#
# After an interruption the same command continues with the first step that has not finished.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=wmt14.en-de work=wmt archives='' table=$here/archives.tsv
merges='' max_ratio='' held_out='' workers=$(nproc)
options "data work archives table merges max-ratio held-out workers" "$@"
need python
out=$work/data/$data
languages
defaults=(32000 250 3300) tokens=(--max-tokens 250)
case $data in
  *.en-fr) defaults=(40000 1.5 3300) ;;
  iwslt14.*) # words have been limited: no limit of BPE tokens
    defaults=(10000 100000 0) tokens=(--max-tokens 100000 --normalise no --lower-case yes)
    ;;
esac
merges=${merges:-${defaults[0]}} max_ratio=${max_ratio:-${defaults[1]}} held_out=${held_out:-${defaults[2]}}
positive merges workers
[[ $max_ratio =~ ^[1-9][0-9]*(\.[0-9]+)?$ ]] || die "--max-ratio is $max_ratio, it must be a number from 1"
[[ $held_out =~ ^[0-9]+$ ]] || die "--held-out is $held_out, it must be an integer from 0"

if [[ ! -e $out/extracted ]]; then
  echo "[wmt, $(clock)] text of $data"
  python "$here/corpora.py" extract "$data" --archives "${archives:-$work/archives}" --table "$table" \
    --out "$out/text" --workers "$workers"
  touch "$out/extracted"
fi
[[ -e $out/tok.done ]] || rm -f "$out"/{,prepare.}options # the text does not depend on them
same_options "$out/options" "--merges $merges --max-ratio $max_ratio --held-out $held_out"
[[ ! -e $out/data-bin.done ]] || exit 0
bash "$root/examples/prepare.sh" --text "$out/text" --out "$out" --source-lang "$source" --target-lang "$target" \
  --merges "$merges" --max-ratio "$max_ratio" "${tokens[@]}" --held-out "$held_out" --workers "$workers"
