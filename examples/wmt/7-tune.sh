#!/usr/bin/env bash
# Tunes the length penalty of a trained model: beam search of the validation set with each.
#
# usage: bash examples/wmt/7-tune.sh [options] [-- ARGUMENT ...]
#
#   --data NAME          the data set (default: wmt18.en-de)
#   --config NAME, --genotype FILE
#                        which model, as for 6-train.sh
#   --work FOLDER        where everything goes (default: wmt)
#   --model FOLDER       the model (default: as for 6-train.sh); gets tune.tsv, a penalty and its
#                        tokenised BLEU a line
#   --penalties "P ..."  (default: 0.0 to 1.0 in steps of 0.1)
#
# What follows -- goes to fairseq-generate, as --fp16. A penalty that was tried is not tried again,
# and counts: the best is that of all in tune.tsv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=wmt18.en-de config=base genotype='' work=wmt model='' penalties=$all_penalties
options "data config genotype work model penalties --" "$@"
check_penalties
trained
generation "$work/data/$data/data-bin" "$model"
need python
same_options "$model/tune.options" "$(of_model) -- ${rest[*]}" "$model/tune.tsv"
# shellcheck disable=SC2086
python "$here/tune.py" "$model/tune.tsv" $penalties -- "${generate[@]}" --gen-subset valid "${rest[@]}" \
  2>>"$model/tune.log" || fail "$model/tune.log" tune.py $?
best "$model" | awk -F '\t' '{ print "best: length penalty " $1 ", validation BLEU " $2 }'
