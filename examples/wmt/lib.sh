# What the steps share. Sourced, never run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
plugin=$root/fairseq_dartsformer
source "$root/examples/lib.sh"
export PYTHONUTF8=1 PYTHONUNBUFFERED=1
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} # this checkout's commands, as its plugin
export LC_ALL=C # decimal points, and the order of `sort`

# train CONFIG ACCUMULATE FOLDER DATA OVERRIDE...: a whole run of configs/CONFIG.yaml on $gpus GPUs
# to its end, once; after an interruption, from its last checkpoint. As the paper's runs have 8
# GPUs, fewer accumulate more batches than ACCUMULATE.
train() {
  local config=$1 accumulate=$2 folder=$3 data=$4 launcher=(fairseq-hydra-train)
  [[ -e $folder/done ]] && return
  [[ $gpus =~ ^[1248]$ ]] || die "--gpus is $gpus, it must be 1, 2, 4 or 8"
  [[ -e $data/preprocess.log ]] || die "no data in $data: run 2-prepare.sh"
  need fairseq-hydra-train torchrun
  mkdir -p "$folder"
  ((gpus == 1)) || launcher=(torchrun --standalone --nproc-per-node "$gpus" "$(command -v fairseq-hydra-train)")
  "${launcher[@]}" --config-dir "$root/configs/${config%/*}" --config-name "${config##*/}" \
    task.data="'$data'" common.user_dir="'$plugin'" checkpoint.save_dir="'$folder'" \
    distributed_training.distributed_world_size="$gpus" \
    optimization.update_freq="[$((accumulate * 8 / gpus))]" "${@:5}" 2>&1 | tee -a "$folder/train.log" ||
    die "the training failed; its log: $folder/train.log"
  [[ -e $folder/checkpoint_last.pt ]] || die "the training left no checkpoint; its log: $folder/train.log"
  touch "$folder/done"
}

# generation DATA MODEL: sets `generate`, the arguments of a beam search as in the paper's
# Section 3.1. (With its default multiple of 8, fairseq would leave out the last sentences.)
generation() {
  [[ -e $2/average.pt ]] || die "no average.pt in $2: run 6-train.sh"
  generate=("$1" --user-dir "$plugin" --path "$2/average.pt" --beam 5 --max-len-a 1 --max-len-b 50
    --max-tokens 8000 --required-batch-size-multiple 1 --remove-bpe --log-format simple)
}

# absolute PATH: for fairseq-hydra-train, which wants such; the folder need not exist.
absolute() { realpath -m "$1"; }

# best MODEL: the length penalty of the best validation BLEU, a tab, and that BLEU.
best() { sort -s -t $'\t' -k 2,2gr "$1/tune.tsv" | head -n 1; }
