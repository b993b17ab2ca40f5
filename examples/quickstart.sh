#!/usr/bin/env bash
# Runs DARTSformer from text to a folder that translates, on two cores, in less than 20 minutes after the installation:
# text -> fairseq's binary data -> architecture search -> genotype -> derived model -> translations, exported model.
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
#   --search-updates N    updates of the search, weights and alpha together (default: 2500)
#   --train-updates N     updates of the derived model (default: 4000)
#   --minutes M           time limit of the training, on a slow machine; the search has half of it (default: 11)
#
# After an interruption the same command continues: it skips finished steps, and search and training
# resume from their last checkpoint. With more updates, or more minutes where the time limit ended it, a finished
# search or training continues, and the results of its earlier end are removed: genotype, derived model,
# translations. The environment is installed in .venv, or $VENV.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
source "$here/lib.sh"

text='' source_lang=en target_lang=de work=quickstart bpe=subword_nmt merges='' vocabulary=''
search_updates=2500 train_updates=4000 minutes=11 seed=1
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
steps=8
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
activate export

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
# The search and the derived model have the same sizes, so that the training can begin with the search's weights. A
# strategy that trains one candidate of each node at a time brings these weights furthest; without candidates that
# compute nothing, as alpha would go to zero (docs/strategies.md).
operations=conv_3,conv_5,conv_7,conv_11,dynamic_conv_3,dynamic_conv_7,dynamic_conv_11,dynamic_conv_15
operations+=,self_attention,glu,ffn
model=(--share-all-embeddings --encoder-layers 2 --decoder-layers 2 --dropout 0.1
  --criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1 --adam-betas '(0.9, 0.98)')

headline 3 "architecture search: $search_updates updates"
later=("$genotype" "$work/derived" "$work/translation" "$work/exported")
arch_start=$(once "$work/search/arch-start" $((search_updates / 5))) # a search that continues keeps it
minutes=$(((minutes + 1) / 2)) train "$work/search" "$search_updates" "${model[@]}" \
  --task translation_search --arch dartsformer_search_small --search-strategy dsnas \
  --encoder-operations "$operations" --decoder-operations "$operations,cross_attention" \
  --optimizer bilevel_adam --lr 3e-3 --lr-scheduler inverse_sqrt --warmup-updates 200 \
  --arch-lr 1e-2 --arch-weight-decay 0 --arch-start "$arch_start" \
  --max-tokens 1000 --save-interval-updates 100 --disable-validation

headline 4 "genotype: the strongest operation of every search node"
[[ -e $genotype ]] || quietly "$work/search/derive.log" dartsformer-derive "$work/search/checkpoint_last.pt" -o "$genotype"
cat "$genotype"

headline 5 "training of the derived model from the search's weights, $train_updates updates"
later=("$work/translation" "$work/exported")
train "$work/derived" "$train_updates" "${model[@]}" \
  --task translation --arch dartsformer_small --genotype "$genotype" \
  --init-from-search "$work/search/checkpoint_last.pt" --optimizer adam --lr 4e-3 \
  --lr-scheduler polynomial_decay --warmup-updates 400 --total-num-update "$train_updates" \
  --max-tokens 2000 --save-interval-updates 500

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

headline 7 "export: a folder that translates without fairseq or torch"
export_model "$work/derived/checkpoint_best.pt"

headline 8 "result"
text=$work/prepared/text
references=$text/test.$target_lang
lines=$(wc -l <"$out/hypotheses")
for sample in 1 2 3 4 5; do
  for side in "source     $text/test.$source_lang" "reference  $references" "translated $out/hypotheses"; do
    printf '%s %s\n' "${side:0:10}" "$(sed -n "$((lines * sample / 6 + 1))p" "${side:11}")"
  done
  echo
done
sacrebleu "$references" --input "$out/hypotheses" --format text | tee "$out/bleu"
sentence=$(sed -n "$((lines / 2 + 1))p" "$text/test.$source_lang")
cat <<END

genotype      $genotype
derived model $work/derived/checkpoint_best.pt
translations  $out/hypotheses, of $text/test.$source_lang
exported      $exported, to try: echo ${sentence@Q} | $venv/bin/python $exported/translate.py
curves        $venv/bin/dartsformer-report $work/search --log $work/search/train.log -o report.html
END
