#!/usr/bin/env bash
# IWSLT'14 De-En from the archive to BLEU: the steps of examples/wmt with the settings of this data set.
#
# usage: bash examples/iwslt14/run.sh [options] [-- SETTING=VALUE ...]
#
#   --work FOLDER        folder for all output (default: iwslt14)
#   --archives FOLDER    folder of de-en.tgz (default: WORK/archives); it is downloaded if it is missing
#   --table FILE         table of archives, for mirrors (default: examples/wmt/archives.tsv)
#   --search NAME        a file in configs/search (default: iwslt14_max_s2); it must learn alpha
#   --genotype FILE      or a built-in name: no search
#   --config NAME        iwslt14 (default) or transformer_iwslt14, which has neither search nor genotype
#   --merges N           BPE merges (default: 10000)
#   --average N          average the last N checkpoints, 2,000 updates apart (default: 5)
#   --penalties "P ..."  length penalties to choose from, on the validation set (default: 1.0, fairseq's)
#   --workers N          processes of the preparation (default: the number of cores)
#
# Arguments after -- go to fairseq-hydra-train, in the search and in the training. After an interruption
# the same command continues: it skips finished steps, and resumes a training from its last checkpoint.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../wmt/lib.sh" # sets $here to examples/wmt

work=iwslt14 archives='' table=$here/archives.tsv search=iwslt14_max_s2 genotype='' config=iwslt14
merges=10000 average=5 penalties=1.0 workers=$(nproc)
options "work archives table search genotype config merges average penalties workers --" "$@"
positive merges average workers
check_penalties
configuration config train "$config"
learns_alpha
[[ ! $genotype ]] || takes_genotype || die "--genotype is $genotype, but --config $config takes none: omit it"

# run STEP OPTION...: runs a step on this data set.
run() { bash "$here/$1.sh" --work "$work" "${@:2}"; }

data=(--data iwslt14.de-en)
source=("${data[@]}" --archives "${archives:-$work/archives}" --table "$table")
run 1-download "${source[@]}"
run 2-prepare "${source[@]}" --merges "$merges" --workers "$workers"
if takes_genotype && [[ ! $genotype ]]; then
  run 3-search "${data[@]}" --search "$search" -- "${rest[@]}"
  run 4-derive --search "$search" --every 1
  genotype=$work/genotypes/$search.json
  cp "$(find "$work/genotypes/$search" -name '*.json' | sort -V | tail -n 1)" "$genotype"
fi
model=("${data[@]}" --config "$config" ${genotype:+--genotype "$genotype"})
run 6-train "${model[@]}" --average "$average" -- "${rest[@]}"
run 7-tune "${model[@]}" --penalties "$penalties"
run 8-test "${model[@]}"
