#!/usr/bin/env bash
# Trains a genotype (Sections 3.3 and 4.2) and averages its last checkpoints.
#
# usage: bash examples/wmt/6-train.sh [options] [-- SETTING=VALUE ...]
#
#   --genotype FILE      or a built-in name (default: what 5-select.sh selected of max_s2)
#   --data NAME          the data set (default: wmt18.en-de)
#   --size base|big      the file in configs/train (default: base)
#   --work FOLDER        where everything goes (default: wmt)
#   --model FOLDER       where the model goes (default: WORK/models/DATA.SIZE); its result is
#                        average.pt there
#   --gpus N             8 (default), 4, 2 or 1; fewer accumulate batches to the same size
#   --average N          average so many checkpoints, 2,000 updates apart (default: 5)
#
# What follows -- goes to fairseq-hydra-train. A training that was interrupted goes on from its
# last checkpoint; one that has ended is not run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

genotype='' data=wmt18.en-de size=base work=wmt model='' gpus=8 average=5
options "genotype data size work model gpus average --" "$@"
positive average
[[ $size == base || $size == big ]] || die "--size is $size, it must be base or big"
genotype=${genotype:-$work/select/max_s2/genotype.json}
[[ ! -e $genotype ]] || genotype=$(absolute "$genotype")
model=$(absolute "${model:-$work/models/$data.$size}")
[[ -e $model/average.pt ]] && exit
accumulate=$([[ $size == big ]] && echo 2 || echo 1)
need python

train "train/$size" "$accumulate" "$model" "$(absolute "$work/data/$data/data-bin")" \
  model.genotype="'$genotype'" checkpoint.no_epoch_checkpoints=true \
  checkpoint.save_interval_updates=2000 checkpoint.keep_interval_updates="$average" "${rest[@]}"
python -m fairseq_dartsformer.cli.average --last "$average" "$model" -o "$model/average.pt"
