#!/usr/bin/env bash
# Trains a genotype (Sections 3.3 and 4.2) or a baseline, and averages its last checkpoints.
#
# usage: bash examples/wmt/6-train.sh [options] [-- SETTING=VALUE ...]
#
#   --genotype FILE      or a built-in name (default: WORK/genotypes/max_s2.json, from 5-select.sh);
#                        baselines other than darts_transformer take none
#   --data NAME          the data set (default: wmt18.en-de)
#   --config NAME        a file in configs/train (default: base)
#   --work FOLDER        folder for all output (default: wmt)
#   --model FOLDER       folder of the model (default: WORK/models/DATA.CONFIG.GENOTYPE, with the
#                        genotype's file name without .json); the result is average.pt there
#   --gpus N             8, 4, 2 or 1 (default: the configuration's, 8); with fewer, batches are accumulated
#   --average N          average the last N checkpoints, 2,000 updates apart (default: 5)
#
# Arguments after -- go to fairseq-hydra-train. The same command resumes an interrupted
# training from its last checkpoint, and skips a finished one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

genotype='' data=wmt18.en-de config=base work=wmt model='' gpus='' average=5
options "genotype data config work model gpus average --" "$@"
positive average
work=$(absolute "$work")
trained
need python

text=$genotype
if [[ -e $genotype ]]; then
  genotype=$(absolute "$genotype") text=$(tr -d '[:space:]' <"$genotype")
elif [[ $genotype == *[/.]* ]]; then # a path, not a built-in name
  die "no genotype in $genotype: run 5-select.sh, or give another --genotype"
fi
train "train/$config" "$model" "$data" \
  "--data $data --config $config --genotype $text -- ${rest[*]}" \
  ${genotype:+model.genotype="$(quoted "$genotype")"} checkpoint.no_epoch_checkpoints=true \
  checkpoint.save_interval_updates=2000 checkpoint.keep_interval_updates="$average" "${rest[@]}"
same_options "$model/average.options" "--average $average" "$model/average.pt"
[[ -e $model/average.pt ]] || python -m fairseq_dartsformer.cli.average --last "$average" "$model" -o "$model/average.pt"
