#!/usr/bin/env bash
# Runs a search (Section 3.2): 60,000 updates on 8 GPUs, a checkpoint every 10,000.
#
# usage: bash examples/wmt/3-search.sh [options] [-- SETTING=VALUE ...]
#
#   --search NAME        a file in configs/search: max_s2 (default), max_s1, avg_s2 or avg_s1, or a
#                        baseline: sampling_max_s2, sampling_avg_s2 or darts_transformer
#   --data NAME          the data set (default: wmt14.en-de)
#   --work FOLDER        folder for all output (default: wmt); this step writes to WORK/search/NAME
#   --gpus N             8, 4, 2 or 1 (default: the configuration's, 8); with fewer, batches are accumulated
#
# Arguments after -- go to fairseq-hydra-train, for example common.fp16=false. The same command
# resumes an interrupted search from its last checkpoint, and skips a finished one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

search=max_s2 data=wmt14.en-de work=wmt gpus=''
options "search data work gpus --" "$@"
configuration search search "$search"
work=$(absolute "$work")
train "search/$search" "$work/search/$search" "$data" "--data $data -- ${rest[*]}" "${rest[@]}"
