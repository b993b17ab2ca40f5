# Functions that the steps share. Source this file.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
plugin=$root/fairseq_dartsformer
source "$root/examples/lib.sh"
export PYTHONUTF8=1 PYTHONUNBUFFERED=1
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} # the commands of this checkout, like the plugin
export LC_ALL=C # for decimal points and the order of `sort`

# configuration OPTION FOLDER NAME: exits unless configs/FOLDER has a file of that name.
configuration() {
  [[ $3 == */* || ! -e $root/configs/$2/$3.yaml ]] || return 0
  die "--$1 is $3, there is no configs/$2/$3.yaml, but $(basename -as .yaml "$root/configs/$2"/*.yaml | xargs)"
}

# learns_alpha: exits if $search is a search by sampling, which has no alpha for steps 4 and 5.
learns_alpha() {
  configuration search search "$search"
  [[ $search != sampling_* ]] ||
    die "--search is $search: use dartsformer-evolve instead of steps 4 and 5 (README.md: Baselines)"
}

# quoted TEXT: quotes any text for hydra.
quoted() {
  local escaped=${1//\'/\\\'}
  printf "'%s'" "$escaped"
}

# languages: sets $source and $target, the languages of the data set $data.
languages() {
  source=${data##*.}
  target=${source#*-} source=${source%-*}
}

# gpus_of CONFIG: prints how many GPUs configs/CONFIG.yaml is for: the last file that it includes decides.
gpus_of() {
  local part
  for part in $(sed -n 's/^defaults: \[_self_, \(.*\)\]$/\1/p' "$root/configs/$1.yaml" | tr -d ,); do
    sed -n 's/^  distributed_world_size: \([0-9]*\)$/\1/p' "$root/configs/${1%/*}/$part.yaml"
  done | tail -n 1
}

# train CONFIG FOLDER DATA OPTIONS OVERRIDE...: runs configs/CONFIG.yaml to its end on the data set DATA
# and $gpus GPUs, unless it has reached it before; resumes from the last checkpoint. Exits if FOLDER
# was made with other OPTIONS. With fewer than the configuration's GPUs, batches are accumulated.
train() {
  local config=$1 folder=$2 data=$work/data/$3/data-bin launcher=(fairseq-hydra-train) accumulate most
  most=$(gpus_of "$config")
  gpus=${gpus:-$most}
  [[ $gpus =~ ^[1248]$ ]] || die "--gpus is $gpus, it must be 1, 2, 4 or 8"
  ((gpus <= most)) || die "--gpus is $gpus, it must be at most $most, as in configs/$config.yaml"
  [[ -e $folder/done || -e $data/preprocess.log ]] || die "no data in $data: run 2-prepare.sh"
  alone "$folder"
  same_options "$folder/options" "$4"
  [[ ! -e $folder/done ]] || return 0
  need fairseq-hydra-train torchrun
  accumulate=$(sed -n 's/^  update_freq: \[\([0-9]*\)\]$/\1/p' "$root/configs/$config.yaml")
  ((gpus == 1)) || launcher=(torchrun --standalone --nproc-per-node "$gpus" "$(command -v fairseq-hydra-train)")
  "${launcher[@]}" --config-dir "$root/configs/${config%/*}" --config-name "${config##*/}" \
    task.data="$(quoted "$data")" common.user_dir="$(quoted "$plugin")" checkpoint.save_dir="$(quoted "$folder")" \
    distributed_training.distributed_world_size="$gpus" \
    optimization.update_freq="[$((${accumulate:-1} * most / gpus))]" "${@:5}" 2>&1 | tee -a "$folder/train.log" &&
    [[ -e $folder/checkpoint_last.pt ]] || {
    [[ -e $folder/checkpoint_last.pt ]] || rm "$folder/options" # no checkpoint has these options
    die "the training failed; its log: $folder/train.log"
  }
  touch "$folder/done"
}

# takes_genotype: whether the configuration $config has a genotype.
takes_genotype() { grep -q '^  genotype: ???$' "$root/configs/train/$config.yaml"; }

# trained: checks $config and sets the defaults of $genotype and $model. Each genotype has its own
# folder; some configurations have no genotype.
trained() {
  configuration config train "$config"
  if takes_genotype; then
    genotype=${genotype:-$work/genotypes/max_s2.json}
  elif [[ $genotype ]]; then
    die "--genotype is $genotype, but --config $config takes none: omit it"
  fi
  model=$(absolute "${model:-$work/models/$data.$config${genotype:+.$(basename "$genotype" .json)}}")
}

# of_model: prints what results depend on besides the arguments: the data and the checkpoint.
of_model() { echo "--data $data, average.pt $(cksum <"$model/average.pt")"; }

# generation DATA MODEL: sets `generate` to the arguments of the paper's beam search (Section 3.1).
# With its default multiple of 8, fairseq would skip the last sentences.
generation() {
  [[ -e $2/average.pt ]] || die "no average.pt in $2: run 6-train.sh"
  generate=("$1" --user-dir "$plugin" --path "$2/average.pt" --beam 5 --max-len-a 1 --max-len-b 50
    --max-tokens 8000 --required-batch-size-multiple 1 --remove-bpe --log-format simple)
}

all_penalties=$(seq -s ' ' 0.0 0.1 1.0) # the default of steps 5 and 7

# check_penalties: exits unless $penalties are numbers.
check_penalties() {
  local number='-?[0-9]+(\.[0-9]+)?'
  [[ $penalties =~ ^$number(\ +$number)*$ ]] || die "--penalties is $penalties, it must be numbers, for example \"0.0 0.6\""
}

# absolute PATH: the absolute path that fairseq-hydra-train needs; it need not exist.
absolute() { realpath -m "$1"; }

# best MODEL: prints the length penalty with the best validation BLEU, a tab, and that BLEU.
best() { sort -s -t $'\t' -k 2,2gr "$1/tune.tsv" | head -n 1; }
