#!/usr/bin/env bash
# Runs DARTSformer from text to BLEU on two cores, in a quarter of an hour after the installation:
# text -> fairseq's binary data -> architecture search -> genotype -> derived model -> translations.
# Where there is a GPU, the same commands use it.
#
# usage: bash examples/quickstart.sh [options]
#
#   --text TEXT           your aligned text (see examples/prepare.sh --help); without it the script
#                         downloads Bible verses
#   --source-lang X       source language (default: en)
#   --target-lang Y       target language (default: de; without --text: de or fr)
#   --work FOLDER         folder for all output (default: quickstart)
#   --bpe NAME            subword_nmt or sentencepiece (default: subword_nmt)
#   --merges N            merge operations of subword_nmt (default: 4000)
#   --vocabulary N        pieces of sentencepiece (default: 4000)
#   --search-updates N    updates of the search, weights and alpha together (default: 1000)
#   --train-updates N     updates of the derived model (default: 3000)
#   --minutes M           time limit of the search, and of the training, on a slow machine (default: 9)
#
# After an interruption the same command continues: it skips finished steps, and search and training
# resume from their last checkpoint. With more updates, a finished search or training continues, and the
# results of its earlier end are removed: genotype, derived model, translations. The environment is
# installed in .venv, or $VENV.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
source "$here/lib.sh"

text='' source_lang=en target_lang=de work=quickstart bpe=subword_nmt merges='' vocabulary=''
search_updates=1000 train_updates=3000 minutes=9
options "text source-lang target-lang work bpe merges vocabulary search-updates train-updates minutes" "$@"
if [[ ! $text ]]; then
  [[ $source_lang == en && $target_lang =~ ^(de|fr)$ ]] ||
    die "without --text there is English to German (de) or French (fr) only"
fi

plugin=$root/fairseq_dartsformer
data=$work/prepared/data-bin
genotype=$work/genotype.json
bpe_size 4000
positive search-updates train-updates minutes
steps=7
trap 'die "interrupted; run the same command to continue"' INT TERM
alone "$work"

# count: prints the number of translations so far.
count() {
  local line sentences=0
  while IFS= read -r line; do
    [[ $line == H-* ]] && ((++sentences % 100 == 0)) && echo "   $sentences sentences"
  done
  echo "   $sentences sentences"
}

headline 1 "installation"
activate

headline 2 "text"
if [[ ! $text ]]; then
  text=$work/text
  [[ -e $text.done ]] || python "$here/prepare_text.py" "$text" --target "$target_lang"
  touch "$text.done"
fi
bash "$here/prepare.sh" --text "$text" --source-lang "$source_lang" --target-lang "$target_lang" \
  --out "$work/prepared" "${size[@]}"
source_lang=${source_lang//-/_} target_lang=${target_lang//-/_} # as prepare.sh names its output

dataset=("$data" --user-dir "$plugin" --source-lang "$source_lang" --target-lang "$target_lang")
model=(--share-all-embeddings --encoder-layers 2 --decoder-layers 2 --dropout 0.1
  --criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1
  --lr-scheduler inverse_sqrt --max-tokens 1000)

headline 3 "architecture search: $search_updates updates of weights and alpha, alternately"
later=("$genotype" "$work/derived" "$work/translation")
train "$work/search" "$search_updates" "${model[@]}" --task translation_search --arch dartsformer_search_tiny \
  --optimizer bilevel_adam --adam-betas '(0.9, 0.98)' --lr 1e-3 --warmup-updates 100 \
  --arch-lr 1e-2 --arch-adam-betas '(0.9, 0.98)' --arch-weight-decay 0 \
  --save-interval-updates 100 --disable-validation

headline 4 "genotype: the strongest candidate of every search node"
[[ -e $genotype ]] || quietly "$work/search/derive.log" dartsformer-derive "$work/search/checkpoint_last.pt" -o "$genotype"
cat "$genotype"

headline 5 "training of the derived model, $train_updates updates"
later=("$work/translation")
train "$work/derived" "$train_updates" "${model[@]}" --task translation --arch dartsformer_small --genotype "$genotype" \
  --optimizer adam --adam-betas '(0.9, 0.98)' --lr 4e-3 --warmup-updates 400 \
  --save-interval-updates 250

headline 6 "translation of the test text, beam 5"
out=$work/translation
# SentencePiece's pieces join to text, subword-nmt's to tokens of Moses.
remove_bpe=--remove-bpe detokenise=(sacremoses -q -l "$target_lang" detokenize)
[[ $bpe == subword_nmt ]] || remove_bpe=--remove-bpe=sentencepiece detokenise=(cat)
# With its default multiple of 8, fairseq would skip the last sentences.
translate() {
  fairseq-generate "${dataset[@]}" --path "$work/derived/checkpoint_best.pt" --gen-subset test --beam 5 --max-len-a 1 \
    --max-len-b 50 --max-tokens 8000 --required-batch-size-multiple 1 "$remove_bpe" --log-format simple
}
if [[ ! -e $out/hypotheses ]]; then
  mkdir -p "$out"
  translate 2>"$out/generate.err" | tee "$out/generate.out" | count ||
    fail "$out/generate.err" fairseq-generate $?
  hypotheses "$out/generate.out" | "${detokenise[@]}" >"$out/hypotheses.partial"
  mv "$out/hypotheses.partial" "$out/hypotheses"
fi

headline 7 "result"
text=$work/prepared/text
references=$text/test.$target_lang
lines=$(wc -l <"$out/hypotheses")
for sample in 1 2 3 4; do
  for side in "source     $text/test.$source_lang" "reference  $references" "translated $out/hypotheses"; do
    printf '%s %s\n' "${side:0:10}" "$(sed -n "$((lines * sample / 5 + 1))p" "${side:11}")"
  done
  echo
done
sacrebleu "$references" --input "$out/hypotheses" --format text | tee "$out/bleu"
cat <<END

genotype      $genotype
derived model $work/derived/checkpoint_best.pt
translations  $out/hypotheses, of $text/test.$source_lang
curves        $venv/bin/dartsformer-report $work/search --log $work/search/train.log -o report.html
END
