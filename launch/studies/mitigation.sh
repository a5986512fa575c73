#!/usr/bin/env bash
# What MCR-BENCH's mitigations win and cost: the base, the base under prompt interventions, and the base after LoRA SFT on
# 1,000 conflict rows, side by side on a world a seed: adversarial gain, faithful loss, calibration error. Ends with their
# means; the plots are in each seed's report.html. Resumes.
#   bash launch/studies/mitigation.sh        seeds 0 1 2, two at a time, ROWS items of each benchmark
#   SEEDS=0 CONFLICT=300 ROWS=60 bash launch/studies/mitigation.sh
source "$(dirname "${BASH_SOURCE[0]}")/../install.sh"
SEEDS="${SEEDS:-0 1 2}" JOBS="${JOBS:-2}" OUT="${OUT:-runs/mitigation}" MODEL="${MODEL:-nano_omni}"
ROWS="${ROWS:-200}" TEST="${TEST:-300}" CONFLICT="${CONFLICT:-1000}" EPOCHS="${EPOCHS:-3}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OUT MODEL ROWS CONFLICT EPOCHS
for seed in $SEEDS; do
    [ -f "$OUT/world$seed/truth.json" ] || rlcomm data orchestra --out "$OUT/world$seed" --seed "$seed" --train 0 \
        --warmup 0 --test "$TEST" --conflict "$CONFLICT"
done

evaluate() {  # folder seed more...
    [ -f "$1/stage.json" ] || rlcomm eval recipes/orchestra/mitigation/eval.yaml --eval_data "$OUT/world$2" \
        --eval_max_rows "$ROWS" --output_dir "$1" "${@:3}"
}
mitigate() {  # seed
    local folder="$OUT/seed$1"
    [ -f "$folder/base/stage.json" ] && return
    mkdir -p "$folder"
    {
        { [ -f "$folder/sft/stage.json" ] || rlcomm train recipes/orchestra/mitigation/conflict_sft.yaml \
            --model_name_or_path "$MODEL" --dataset "$OUT/world$1/conflict.jsonl" --num_train_epochs "$EPOCHS" \
            --seed "$1" --output_dir "$folder/sft"; } &&
        evaluate "$folder/sft_eval" "$1" --model_name_or_path "$folder/sft/model" --decoders greedy,gacl &&
        evaluate "$folder/base" "$1" --model_name_or_path "$MODEL" --beside "conflict_sft=$folder/sft_eval"
    } > "$folder/log.txt" 2>&1 || { echo "seed $1 failed; see $folder/log.txt" >&2; return 1; }
    echo "seed $1: done, $folder/base/report.html"
}
export -f evaluate mitigate
printf '%s\n' $SEEDS | xargs -P "$JOBS" -L 1 bash -c 'mitigate "$@"' _
echo; rlcomm show "$OUT"/seed*/base
