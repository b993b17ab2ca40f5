#!/usr/bin/env bash
# Translates the test set (of WMT newstest2014) with the length penalty that 7-tune.sh found. Prints
# tokenised BLEU, which compares with the paper's, and sacreBLEU with its signature.
#
# usage: bash examples/wmt/8-test.sh [options] [-- ARGUMENT ...]
#
#   --data NAME          the data set (default: wmt18.en-de)
#   --config NAME, --genotype FILE
#                        select the model, as for 6-train.sh
#   --work FOLDER        folder for all output (default: wmt)
#   --model FOLDER       the model (default: as for 6-train.sh); gets test.out (fairseq's
#                        output), test.hypotheses (raw text) and bleu
#
# Arguments after -- go to fairseq-generate, for example --fp16.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=wmt18.en-de config=base genotype='' work=wmt model=''
options "data config genotype work model --" "$@"
trained
languages
[[ $data == iwslt14.* ]] && case=(--lowercase) || case=() # its translations are lower-case
reference=$work/data/$data/text/test.$target
generation "$work/data/$data/data-bin" "$model"
[[ -e $model/tune.tsv ]] || die "no tune.tsv in $model: run 7-tune.sh"
penalty=$(best "$model" | cut -f 1)
same_options "$model/bleu.options" "$(of_model), length penalty $penalty -- ${rest[*]}" "$model/bleu"
if [[ ! -e $model/bleu ]]; then
  need fairseq-generate sacremoses sacrebleu
  echo "[test, $(clock)] test set, length penalty $penalty"
  fairseq-generate "${generate[@]}" --gen-subset test --lenpen "$penalty" "${rest[@]}" \
    >"$model/test.out" 2>"$model/test.err" || fail "$model/test.err" fairseq-generate $?
  hypotheses "$model/test.out" | sacremoses -q -l "$target" detokenize >"$model/test.hypotheses"
  [[ $(wc -l <"$model/test.hypotheses") == $(wc -l <"$reference") ]] ||
    die "$model/test.hypotheses and $reference differ in their number of lines"
  {
    echo "length penalty $penalty"
    grep '^Generate test' "$model/test.out" | sed 's/^/tokenised: /'
    sacrebleu "$reference" --input "$model/test.hypotheses" --language-pair "$source-$target" --format text \
      "${case[@]}"
  } >"$model/bleu.partial"
  mv "$model/bleu.partial" "$model/bleu"
fi
cat "$model/bleu"
