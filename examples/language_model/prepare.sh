#!/usr/bin/env bash
# Prepares the text of documents for a language model: Moses normalisation and tokenisation, BPE,
# fairseq-preprocess --only-source. SentencePiece reads raw text instead. Documents stay separated.
#
# usage: bash examples/language_model/prepare.sh --text TEXT --out FOLDER [options]
#
#   --text TEXT          a folder with train.txt, valid.txt and test.txt, or one file, of which the last
#                        documents are held out (5 % for each); raw UTF-8. Blank lines separate documents;
#                        without blank lines each line is a document
#   --out FOLDER         gets text/ (raw), tok/, codes/, bpe/, data-bin/ and prepare.log; no tok/ with
#                        SentencePiece
#   --lang X             language of the text, whose rules of Moses are used (default: en)
#   --bpe NAME           subword_nmt or sentencepiece (default: subword_nmt)
#   --merges N           of subword_nmt: merge operations (default: 8000)
#   --vocabulary N       of sentencepiece: pieces (default: 8000)
#   --workers N          processes (default: the number of cores)
#
# After an interruption the same command continues with the first step that has not finished.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=$(dirname "$here")
source "$examples/lib.sh"

text='' out='' lang=en bpe=subword_nmt merges='' vocabulary='' workers=$(nproc)
options "text out lang bpe merges vocabulary workers" "$@"
[[ $text && $out ]] || die "--text and --out are needed (see --help)"
bpe_size 8000
positive workers
[[ -d $text || -f $text ]] || die "--text is $text, it must be a folder or a file"
need python subword-nmt fairseq-preprocess

alone "$out"

export PYTHONUTF8=1
log=$out/prepare.log
[[ -d $text ]] && inputs=("$text"/{train,valid,test}.txt) || inputs=("$text")
checksum=$(cat "${inputs[@]}" 2>/dev/null | cksum) || true
same_text "$checksum" "--lang $lang ${size[*]}"

split() { python "$here/documents.py" split "$text" "$1"; }

tokenise() {
  local split
  for split in train valid test; do
    python "$examples/corpus.py" tokenise "$out/text/$split.txt" "$1/$split" "$lang" --workers "$workers"
  done
}

learn_bpe() {
  quietly "$log" subword-nmt learn-bpe --symbols "$merges" --num-workers "$workers" \
    --input "$out/tok/train" --output "$1/codes"
}

apply_bpe() {
  local split
  for split in train valid test; do
    apply_codes "$out/text/$split.txt" "$out/tok/$split" "$1/$split"
  done
}

binarise() {
  rm -rf "$1"
  quietly "$log" fairseq-preprocess --only-source --destdir "$1" --workers "$workers" \
    --trainpref "$out/bpe/train" --validpref "$out/bpe/valid" --testpref "$out/bpe/test"
  sed -n 's/.*\(\[[^]]*\] Dictionary: .*\)/  \1/p' "$log" | tail -n 1
}

step text "text: train, valid, test" split
learn_codes "$out/text/train.txt"
step bpe "applying BPE" apply_bpe
step data-bin "fairseq-preprocess" binarise
