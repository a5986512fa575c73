#!/usr/bin/env bash
# Who wins when senses and texts disagree: the base under every decoder on three worlds, then the stages of the ablation's
# seeds (step-wise answers, greedy and GACL) on the first world. Resumes. Afterwards: rlcomm show runs/conflict/base/*
#   bash launch/studies/conflict.sh        after launch/studies/ablation.sh; ROWS items of each benchmark
source "$(dirname "${BASH_SOURCE[0]}")/../install.sh"
SEEDS="${SEEDS:-0 1 2}" JOBS="${JOBS:-2}" OUT="${OUT:-runs/conflict}" ABLATION="${ABLATION:-runs/ablation}" ROWS="${ROWS:-200}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OUT ABLATION ROWS
for seed in $SEEDS; do
    [ -f "$OUT/world$seed/truth.json" ] ||
        rlcomm data orchestra --out "$OUT/world$seed" --seed "$seed" --train 0 --warmup 0
done

evaluate() {  # name seed model world more...
    local folder="$OUT/$1/$2"
    [ -f "$folder/stage.json" ] && return
    mkdir -p "$folder"
    rlcomm eval recipes/orchestra/conflict.yaml --model_name_or_path "$3" --eval_data "$OUT/world$4" \
        --eval_max_rows "$ROWS" --output_dir "$folder" "${@:5}" > "$folder/log.txt" 2>&1 ||
        { echo "$1, seed $2 failed; see $folder/log.txt" >&2; return 1; }
    echo "$1, seed $2: done"
}
export -f evaluate
{
    for seed in $SEEDS; do echo "base $seed nano_omni $seed"; done
    for seed in $SEEDS; do
        for stage in sft_only/warmup calibrated/step_rr calibrated/ans_co; do
            model="$ABLATION/${stage%/*}/$seed/${stage#*/}/model"
            if [ -d "$model" ]; then echo "${stage#*/} $seed $model 0 --prompt_style steps --decoders greedy,gacl"; fi
        done
    done
} | xargs -P "$JOBS" -L 1 bash -c 'evaluate "$@"' _
for stage in base warmup step_rr ans_co; do
    if ls "$OUT/$stage"/*/stage.json > /dev/null 2>&1; then echo; echo "$stage"; rlcomm show "$OUT/$stage"/*; fi
done
