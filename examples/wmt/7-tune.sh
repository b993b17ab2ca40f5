#!/usr/bin/env bash
# Tunes the length penalty of a trained model: beam search of the validation set with each.
#
# usage: bash examples/wmt/7-tune.sh [options] [-- ARGUMENT ...]
#
#   --data NAME          the data set (default: wmt18.en-de)
#   --size base|big      which model (default: base)
#   --work FOLDER        where everything goes (default: wmt)
#   --model FOLDER       the model (default: WORK/models/DATA.SIZE); gets tune.tsv, a penalty and
#                        its tokenised BLEU a line
#   --penalties "P ..."  (default: 0.0 to 1.0 in steps of 0.1)
#
# What follows -- goes to fairseq-generate, as --fp16. A penalty that was tried is not tried again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=wmt18.en-de size=base work=wmt model='' penalties='0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0'
options "data size work model penalties --" "$@"
model=${model:-$work/models/$data.$size}
generation "$work/data/$data/data-bin" "$model"
need python
# shellcheck disable=SC2086
python "$here/tune.py" "$model/tune.tsv" $penalties -- "${generate[@]}" --gen-subset valid "${rest[@]}" \
  >>"$model/tune.log"
best "$model" | awk -F '\t' '{ print "best: length penalty " $1 ", validation BLEU " $2 }'
