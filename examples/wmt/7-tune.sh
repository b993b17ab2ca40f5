#!/usr/bin/env bash
# Tunes the length penalty of a trained model by beam search on the validation set.
#
# usage: bash examples/wmt/7-tune.sh [options] [-- ARGUMENT ...]
#
#   --data NAME          the data set (default: wmt18.en-de)
#   --config NAME, --genotype FILE
#                        select the model, as for 6-train.sh
#   --work FOLDER        folder for all output (default: wmt)
#   --model FOLDER       the model (default: as for 6-train.sh); tune.tsv there gets
#                        a penalty and its tokenised BLEU per line
#   --penalties "P ..."  (default: 0.0 to 1.0 in steps of 0.1)
#
# Arguments after -- go to fairseq-generate, for example --fp16. Penalties that
# are in tune.tsv are not tried again; the best is chosen among all of them.
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
