#!/usr/bin/env bash
# Retrains the genotype of every checkpoint of a search and selects the one with the best validation
# BLEU (Section 3.3). Checkpoints with the same genotype share one retraining.
#
# usage: bash examples/wmt/5-select.sh [options] [-- SETTING=VALUE ...]
#
#   --search NAME        as for 3-search.sh (default: max_s2)
#   --data NAME          the data set (default: wmt14.en-de)
#   --config NAME        a file in configs/train (default: base; for the search darts_transformer,
#                        darts_transformer)
#   --work FOLDER        folder for all output (default: wmt); this step writes to WORK/select/NAME
#                        (scores.tsv lists all) and to WORK/genotypes/NAME.json (the best)
#   --gpus N             8, 4, 2 or 1 (default: the configuration's, 8)
#   --average N          as for 6-train.sh (default: 5)
#   --penalties "P ..."  as for 7-tune.sh
#
# Arguments after -- go to fairseq-hydra-train. The same command skips finished retrainings.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

search=max_s2 data=wmt14.en-de config='' work=wmt gpus='' average=5 penalties=$all_penalties
options "search data config work gpus average penalties --" "$@"
positive average
check_penalties
learns_alpha
[[ $config || $search != darts_transformer ]] || config=$search
config=${config:-base}
out=$work/select/$search
[[ -e $work/genotypes/$search/report.txt ]] || die "no genotypes in $work/genotypes/$search: run 4-derive.sh"
mapfile -t genotypes < <(find "$work/genotypes/$search" -name '*.json' | sort -V)

declare -A seen
scores=''
for genotype in "${genotypes[@]}"; do
  name=$(basename "$genotype" .json)
  if [[ ${seen[$(<"$genotype")]:-} ]]; then
    echo "$name: the genotype of ${seen[$(<"$genotype")]}"
    continue
  fi
  seen[$(<"$genotype")]=$name
  echo "[select, $(clock)] $name"
  bash "$here/6-train.sh" --genotype "$genotype" --data "$data" --config "$config" --work "$work" \
    --model "$out/$name" --gpus "$gpus" --average "$average" -- "${rest[@]}"
  bash "$here/7-tune.sh" --model "$out/$name" --data "$data" --config "$config" --work "$work" \
    --penalties "$penalties"
  scores+="$(best "$out/$name")"$'\t'$name$'\n'
done
sort -s -t $'\t' -k 2,2gr <<<"${scores%$'\n'}" | awk -F '\t' '{ print $2 "\t" $3 }' | tee "$out/scores.tsv"
selected=$(head -n 1 "$out/scores.tsv" | cut -f 2)
cp "$work/genotypes/$search/$selected.json" "$work/genotypes/$search.json"
echo "selected: $selected, $work/genotypes/$search.json"
