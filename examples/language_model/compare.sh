#!/usr/bin/env bash
# Compares the language model that run.sh has found with fairseq's transformer_lm, post-LN and pre-LN, and with
# random genotypes. All have the same number of parameters, to 1 %, and are trained alone in the same way.
#
# usage: bash examples/language_model/compare.sh [options]
#
#   --work FOLDER         the folder of run.sh, with its text and genotype (default: language_model)
#   --out FOLDER          folder for all output; gets models.csv (default: WORK/compare)
#   --genotypes "FILE ..."
#                         genotypes to compare, named by their files (default: WORK/genotype.json)
#   --count N             random genotypes, 2 or more, each trained once (default: 24)
#   --seeds N             trainings of every other model, with the seeds 1 to N (default: 2)
#   --updates N           updates of a training, a multiple of 8 (default: 2000)
#   --jobs N              trainings side by side, a core each (default: 1)
#
# Activate the environment of examples/install.sh first. After an interruption the same command continues
# with the last checkpoints. Several starts with the same folder share the trainings.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
source "$root/examples/lib.sh"

work=language_model out='' genotypes='' count=24 seeds=2 updates=2000 jobs=1
options "work out genotypes count seeds updates jobs" "$@"
positive count seeds updates jobs
((updates % 8 == 0)) || die "--updates is $updates, it must be a multiple of 8"
((count > 1)) || die "--count is $count, it must be 2 or more"
trap 'die "interrupted; run the same command to continue"' INT
out=${out:-$work/compare}
data=$work/prepared/data-bin
[[ -e $work/prepared/data-bin.done ]] || die "--work is $work, it must be a folder of examples/language_model/run.sh"
found=("$work/genotype.json")
[[ ! $genotypes ]] || read -ra found <<<"$genotypes"
for genotype in "${found[@]}"; do
  [[ -f $genotype ]] || die "there is no genotype $genotype: let run.sh find it, or name others by --genotypes"
done
need python fairseq-train
export PYTHONUTF8=1 PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
unset PYTHONUNBUFFERED # so that workers, which share a pipe, write complete lines

# The options and the models with their sizes, by one start at a time.
(
  alone "$out"
  same_options "$out/options" "$(cat "${found[@]}" "$data"/{dict.txt,train.bin} | cksum) --count $count --updates $updates"
  [[ -e $out/models.json ]] ||
    python "$here/compare.py" size "$data" --models "$out/models.json" --genotypes "${found[@]}" --count "$count" ||
    { rm "$out/options" && exit 1; } # so that other options are allowed
)
table=$out/models.csv
others=$((${#found[@]} + 2))
echo "== [1/2, $(clock)] $others models by $seeds training seeds, and $count random genotypes; $updates updates each"
complete "$table" $((others * seeds + count)) python "$here/compare.py" train "$data" --models "$out/models.json" \
  --out "$out/runs" --table "$table" --seeds "$seeds" --updates "$updates"

echo "== [2/2, $(clock)] result"
python "$here/compare.py" report --table "$table" | tee "$out/result.md"
