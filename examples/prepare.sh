#!/usr/bin/env bash
# Prepares aligned plain text for fairseq: Moses normalisation and tokenisation, joint BPE,
# a limit on the length, fairseq-preprocess with a joined dictionary. SentencePiece reads raw text
# instead, and normalises it in its own way.
#
# usage: bash examples/prepare.sh --text TEXT --source-lang X --target-lang Y --out FOLDER [options]
#
#   --text TEXT          a folder with train.X, valid.X, test.X and the same in Y, or a prefix:
#                        PREFIX.X, PREFIX.Y and, if you have them, PREFIX.valid.X, PREFIX.test.X
#                        and the same in Y (otherwise the last lines are held out, 1,000 or 5 %
#                        each); raw UTF-8, where line n of Y translates line n of X. OUT/text itself
#                        is used unchanged, and must have no empty lines
#   --source-lang X, --target-lang Y
#                        as in the names of the files; pt-BR is pt_BR in the names of all output,
#                        because fairseq reads a hyphen there as a pair of languages
#   --out FOLDER         gets text/ (raw), tok/, codes/, bpe/, data-bin/ and prepare.log; no tok/
#                        with SentencePiece
#   --bpe NAME           subword_nmt, or sentencepiece, as fairseq's option names them (default:
#                        subword_nmt). The codes are codes/codes, or codes/sentencepiece.bpe.model
#   --merges N           of subword_nmt: merge operations, both languages together (default: 8000)
#   --vocabulary N       of sentencepiece: pieces, both languages together, with all characters of
#                        the training text (default: 8000)
#   --max-tokens N       drop training pairs that are longer, in BPE tokens (default: 250)
#   --max-ratio R        drop training pairs whose lengths differ by more than this factor (default: 3)
#   --normalise yes|no   Moses normalisation of punctuation (default: yes), with subword_nmt
#   --lower-case yes|no  lower-case tokens (default: no), with subword_nmt
#   --held-out N         draw N random training pairs as the validation set; TEXT then has no valid
#                        (default: 0)
#   --workers N          processes (default: the number of cores)
#
# Pairs with an empty side are dropped. After an interruption the same command continues with the
# first step that has not finished.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib.sh"

text='' source_lang='' target_lang='' out='' bpe=subword_nmt merges='' vocabulary='' max_tokens=250 max_ratio=3
normalise=yes lower_case=no held_out=0 workers=$(nproc)
known="text source-lang target-lang out bpe merges vocabulary max-tokens max-ratio normalise lower-case held-out workers"
options "$known" "$@"
[[ $text && $source_lang && $target_lang && $out ]] ||
  die "--text, --source-lang, --target-lang and --out are needed (see --help)"
bpe_size 8000
positive max-tokens workers
[[ $max_ratio =~ ^[1-9][0-9]*(\.[0-9]+)?$ ]] || die "--max-ratio is $max_ratio, it must be a number from 1"
[[ $held_out =~ ^[0-9]+$ ]] || die "--held-out is $held_out, it must be an integer from 0"
yes_or_no normalise lower-case
[[ $bpe == subword_nmt || $normalise$lower_case == yesno ]] ||
  die "--normalise and --lower-case are for Moses tokens, which --bpe $bpe does not have"
splits=(train valid test)
((held_out == 0)) || splits=(train test)
[[ $source_lang$target_lang =~ ^[[:alnum:]_-]+$ ]] ||
  die "languages are $source_lang and $target_lang, they must consist of letters, digits, - and _"
source_name=${source_lang//-/_} target_name=${target_lang//-/_}
[[ $source_name != "$target_name" ]] || die "--source-lang and --target-lang are both $source_name"
need python subword-nmt fairseq-preprocess

alone "$out"

export PYTHONUTF8=1
log=$out/prepare.log
[[ -d $text ]] && inputs=("$text"/{train,valid,test}) || inputs=("$text"{,.valid,.test})
checksum=$(cat "${inputs[@]/%/.$source_lang}" "${inputs[@]/%/.$target_lang}" 2>/dev/null | cksum) || true
changes='' # of the default tokenisation, under which the options of earlier versions are valid
[[ $normalise == yes ]] || changes+=" --normalise no"
[[ $lower_case == no ]] || changes+=" --lower-case yes"
same_text "$checksum" \
  "--source-lang $source_lang --target-lang $target_lang ${size[*]} --max-tokens $max_tokens --max-ratio $max_ratio --held-out $held_out$changes"

split() {
  local valid=() empty pairs
  ((held_out == 0)) || valid=(--without-valid)
  if [[ $text -ef $1 && $source_lang$target_lang == "$source_name$target_name" ]]; then
    # The raw test set is the reference of the translations, so no line of it can be dropped later.
    ! empty=$(grep -Hnm 1 '^[[:space:][:cntrl:]]*$' "$1"/*."$source_lang" "$1"/*."$target_lang" |
      sed 's/:[[:space:][:cntrl:]]*$//;q') || die "$empty: the line is empty; remove the pair"
  else
    python "$here/corpus.py" split "$text" "$1" "$source_lang" "$target_lang" "${valid[@]}"
  fi
  pairs=$(wc -l <"$1/train.$source_name")
  ((held_out < pairs)) || die "--held-out is $held_out, of $pairs training pairs"
}

tokenise() {
  local split language
  for split in "${splits[@]}"; do
    for language in "$source_name" "$target_name"; do
      echo "  $split.$language"
      python "$here/corpus.py" tokenise "$out/text/$split.$language" "$1/$split.$language" "$language" \
        --normalise "$normalise" --lower-case "$lower_case" --workers "$workers"
    done
  done
}

learn_bpe() {
  quietly "$log" subword-nmt learn-joint-bpe-and-vocab --symbols "$merges" --output "$1/codes" \
    --num-workers "$workers" \
    --input "$out/tok/train.$source_name" "$out/tok/train.$target_name" \
    --write-vocabulary "$1/vocab.$source_name" "$1/vocab.$target_name"
}

apply_bpe() {
  local split language file
  for split in "${splits[@]}"; do
    for language in "$source_name" "$target_name"; do
      file=$split.$language
      [[ $split == train ]] && file=all.$language
      printf ' %s' "$split.$language"
      apply_codes "$out/text/$split.$language" "$out/tok/$split.$language" "$1/$file"
    done
  done
  echo
  python "$here/corpus.py" filter "$1/all" "$1/train" "$source_name" "$target_name" \
    --max-tokens "$max_tokens" --max-ratio "$max_ratio" --held-out "$held_out"
}

binarise() {
  rm -rf "$1"
  quietly "$log" fairseq-preprocess --source-lang "$source_name" --target-lang "$target_name" \
    --trainpref "$out/bpe/train" --validpref "$out/bpe/valid" --testpref "$out/bpe/test" \
    --joined-dictionary --destdir "$1" --workers "$workers"
  sed -n 's/.*\(\[[^]]*\] Dictionary: .*\)/  \1/p' "$log" | tail -n 1
}

step text "text: train, valid, test" split
learn_codes "$out/text/train.$source_name" "$out/text/train.$target_name"
step bpe "applying BPE; training pairs of at most $max_tokens tokens" apply_bpe
step data-bin "fairseq-preprocess" binarise
