#!/usr/bin/env bash
# Searches a language model on two cores, in less than 20 minutes after the installation:
# text -> fairseq's binary data -> architecture search -> genotype -> derived model -> perplexity, and an
# exported folder, which continues a text. Where there is a GPU, the same commands use it.
#
# usage: bash examples/language_model/run.sh [options]
#
#   --text TEXT           your text (see examples/language_model/prepare.sh --help); without it the
#                         script downloads the annual messages of the presidents of the United States
#   --lang X              language of the text (default: en)
#   --work FOLDER         folder for all output (default: language_model)
#   --bpe NAME            subword_nmt or sentencepiece (default: subword_nmt)
#   --merges N            merge operations of subword_nmt (default: 4000)
#   --vocabulary N        pieces of sentencepiece (default: 4000)
#   --search-updates N    updates of the search, weights and alpha together (default: 2500)
#   --train-updates N     updates of the derived model (default: 2500)
#   --seed N              of search and training (default: 1); give each its own --work
#   --minutes M           time limit of the training, on a slow machine; the search has half of it (default: 11)
#   --prompt TEXT         the beginning of a text, which the model continues
#
# After an interruption the same command continues: it skips finished steps, and search and training
# resume from their last checkpoint. With more updates, or more minutes where the time limit ended it, a finished
# search or training continues, and the results of its earlier end are removed: genotype, derived model,
# perplexity, exported folder. The environment is installed in .venv, or $VENV.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=$(dirname "$here")
root=$(dirname "$examples")
source "$examples/lib.sh"

text='' lang=en work=language_model bpe=subword_nmt merges='' vocabulary=''
search_updates=2500 train_updates=2500 seed=1 minutes=11 prompt='The state of our finances'
options "text lang work bpe merges vocabulary search-updates train-updates seed minutes prompt" "$@"

plugin=$root/fairseq_dartsformer
genotype=$work/genotype.json
bpe_size 4000
positive search-updates train-updates seed minutes
steps=7
[[ $prompt =~ [^[:space:]] ]] || die "--prompt is empty, it must have a word"
trap 'die "interrupted; run the same command to continue"' INT TERM
alone "$work"

headline 1 "installation"
activate export

headline 2 "text"
if [[ ! $text ]]; then
  text=$work/text
  [[ -e $text.done ]] || python "$here/documents.py" messages "$text"
  touch "$text.done"
fi
bash "$here/prepare.sh" --text "$text" --lang "$lang" --out "$work/prepared" "${size[@]}"

dataset=("$work/prepared/data-bin" --user-dir "$plugin")
# The search and the derived model have the same sizes, so that the training can begin with the search's weights. As in
# the quick start, the strategy trains one candidate of each node at a time, and none that compute nothing.
operations=conv_3,conv_5,conv_7,conv_11,dynamic_conv_3,dynamic_conv_7,dynamic_conv_11,dynamic_conv_15
operations+=,self_attention,glu,ffn
model=(--share-decoder-input-output-embed --decoder-layers 4 --embed-dim 128 --hidden-dim 240 --attention-heads 4
  --dropout 0.1 --criterion chunked_label_smoothed_cross_entropy --label-smoothing 0 --adam-betas '(0.9, 0.98)'
  --tokens-per-sample 128 --required-batch-size-multiple 1) # with 8, fairseq would skip a short validation text

headline 3 "architecture search: $search_updates updates of weights and alpha"
later=("$genotype" "$work/derived" "$work/perplexity.log" "$work/exported")
same_options "$work/search/options" "--seed $seed"
arch_start=$(once "$work/search/arch-start" $((search_updates / 5))) # a search that continues keeps it
minutes=$(((minutes + 1) / 2)) train "$work/search" "$search_updates" "${model[@]}" \
  --task language_modeling_search --arch dartsformer_lm_search --search-layers 2 --search-strategy dsnas \
  --decoder-operations "$operations" --optimizer bilevel_adam --lr 3e-3 --lr-scheduler inverse_sqrt --warmup-updates 200 \
  --arch-lr 1e-2 --arch-weight-decay 0 --arch-start "$arch_start" \
  --max-tokens 1024 --save-interval-updates 100 --disable-validation

headline 4 "genotype: the strongest operation of every search node"
[[ -e $genotype ]] || quietly "$work/search/derive.log" dartsformer-derive "$work/search/checkpoint_last.pt" -o "$genotype"
cat "$genotype"

headline 5 "training of the derived model from the search's weights, $train_updates updates"
later=("$work/perplexity.log" "$work/exported")
train "$work/derived" "$train_updates" "${model[@]}" --task language_modeling --arch dartsformer_lm \
  --genotype "$genotype" --init-from-search "$work/search/checkpoint_last.pt" --optimizer adam --lr 4e-3 \
  --lr-scheduler polynomial_decay --warmup-updates 400 --total-num-update "$train_updates" \
  --max-tokens 2048 --save-interval-updates 500

headline 6 "perplexity of the test text"
best=$work/derived/checkpoint_best.pt
if [[ ! -e $work/perplexity.log ]]; then
  rm -f "$work/perplexity.partial"
  quietly "$work/perplexity.partial" fairseq-eval-lm "${dataset[@]}" --path "$best" --gen-subset test \
    --tokens-per-sample 128 --context-window 64 --max-tokens 4096 --required-batch-size-multiple 1
  mv "$work/perplexity.partial" "$work/perplexity.log"
fi
perplexity=$(grep -o 'Loss (base 2): .*' "$work/perplexity.log")
echo "   $perplexity, of a $bpe token"

headline 7 "exported folder, and a continuation: at most 60 tokens, each drawn from the ten most likely"
export_model "$best" --lang "$lang"
python "$exported/continue.py" --topk 10 --max-len-a 1 --max-len-b 59 <<<"$prompt" | tee "$work/continuation"
cat <<END

genotype      $genotype
derived model $best
perplexity    $work/perplexity.log
exported      $exported, which continues any text: echo ${prompt@Q} | $venv/bin/python $exported/continue.py --topk 10 --seed 2
curves        $venv/bin/dartsformer-report $work/search --log $work/search/train.log -o report.html
END
