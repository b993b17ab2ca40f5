#!/usr/bin/env bash
# Derives a genotype from every checkpoint of a search (Eq. 2) and reports what changed between them.
#
# usage: bash examples/wmt/4-derive.sh [options]
#
#   --search NAME        as for 3-search.sh (default: max_s2); not a search by sampling
#   --work FOLDER        folder for all output (default: wmt); this step writes to WORK/genotypes/NAME
#   --every N            take the checkpoints at multiples of N updates (default: 10000)
#
# Replaces the results of an earlier call.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

search=max_s2 work=wmt every=10000
options "search work every" "$@"
positive every
learns_alpha
need python
[[ -e $work/search/$search/done ]] || die "the search $search has not finished: run 3-search.sh"
out=$work/genotypes/$search
mapfile -t found < <(find "$work/search/$search" -name 'checkpoint_*_*.pt' | sort -V)
checkpoints=()
for path in "${found[@]}"; do
  updates=$(basename "${path##*_}" .pt)
  ((updates % every)) || checkpoints+=("$path")
done
((${#checkpoints[@]})) || die "--every is $every: no checkpoint in $work/search/$search is at a multiple of it"
rm -rf "$out"
mkdir -p "$out"
python -m fairseq_dartsformer.cli.derive "${checkpoints[@]}" -o "$out" --top 3 >"$out/report.partial"
mv "$out/report.partial" "$out/report.txt"
cat "$out/report.txt"
