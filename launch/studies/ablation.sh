#!/usr/bin/env bash
# The paper's ablation in miniature, every arm with several seeds; resumes. Then: rlcomm show runs/ablation/*/*
#   bash launch/studies/ablation.sh        seeds 0 1 2, two arms at a time, below runs/ablation
#   SEEDS="0" JOBS=1 bash launch/studies/ablation.sh
source "$(dirname "${BASH_SOURCE[0]}")/../install.sh"
SEEDS="${SEEDS:-0 1 2}" JOBS="${JOBS:-2}" OUT="${OUT:-runs/ablation}" DATA="${DATA:-runs/orchestra}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OUT DATA
[ -f "$DATA/truth.json" ] || rlcomm data orchestra --out "$DATA"

run_arm() {  # arm seed
    local folder="$OUT/$1/$2" rows="$OUT/sft_only/$2/reference/train.jsonl" stage=step_rr
    [ -f "$folder/summary.json" ] && return
    mkdir -p "$folder"
    if [ "$1" = sft_only ]; then
        rlcomm pipeline recipes/orchestra/ablation/sft_only.yaml --seed "$2" --output_dir "$folder" --data "$DATA"
    else
        [ "$1" = accuracy ] && stage=grpo
        rlcomm pipeline "recipes/orchestra/ablation/arm_$1.yaml" --seed "$2" --output_dir "$folder" \
            --model_name_or_path "$OUT/sft_only/$2/warmup/model" --data "$DATA" \
            "--$stage.dataset" "$rows" --ans_co.dataset "$rows"
    fi > "$folder/log.txt" 2>&1 || { echo "arm $1, seed $2 failed; see $folder/log.txt" >&2; return 1; }
    echo "arm $1, seed $2: done"
}
export -f run_arm
for seed in $SEEDS; do echo "sft_only $seed"; done | xargs -P "$JOBS" -L 1 bash -c 'run_arm "$@"' _
for seed in $SEEDS; do
    for arm in calibrated similarity witnessed accuracy ans_co; do echo "$arm $seed"; done
done | xargs -P "$JOBS" -L 1 bash -c 'run_arm "$@"' _
for arm in sft_only ans_co accuracy similarity calibrated witnessed; do
    echo; echo "$arm"; rlcomm show "$OUT/$arm"/*
done
