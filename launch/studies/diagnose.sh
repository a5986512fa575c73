#!/usr/bin/env bash
# Why the models choose the wrong sense, before training and after each stage: flips, patching, probes and reliance of the base
# and of the stages of launch/studies/ablation.sh, seed s on world s, each beside the stages before it on the same items. Ends with
# their means over the seeds beside the published figures. Resumes.
#   bash launch/studies/diagnose.sh        after launch/studies/ablation.sh (its models that are there); two seeds at a time
#   SEEDS=0 ROWS=5 bash launch/studies/diagnose.sh
source "$(dirname "${BASH_SOURCE[0]}")/../install.sh"
SEEDS="${SEEDS:-0 1 2}" JOBS="${JOBS:-2}" OUT="${OUT:-runs/diagnose}" ABLATION="${ABLATION:-runs/ablation}" ROWS="${ROWS:-25}"
WORLDS="${WORLDS:-runs/conflict}" TEST="${TEST:-300}" STAGES="base warmup step_rr ans_co"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OUT ABLATION ROWS WORLDS STAGES
for seed in $SEEDS; do
    [ -f "$WORLDS/world$seed/truth.json" ] || rlcomm data orchestra --out "$WORLDS/world$seed" --seed "$seed" --train 0 \
        --warmup 0 --test "$TEST"
done

diagnose() {  # seed
    local stage model folder before=()
    for stage in $STAGES; do
        case $stage in
            base) model=nano_omni ;;
            warmup) model="$ABLATION/sft_only/$1/warmup/model" ;;
            *) model="$ABLATION/calibrated/$1/$stage/model" ;;
        esac
        folder="$OUT/$stage/$1"
        [ "$stage" = base ] || [ -d "$model" ] || continue
        if [ ! -f "$folder/diagnosis.html" ]; then
            mkdir -p "$folder"
            rlcomm diagnose recipes/orchestra/diagnose.yaml --model_name_or_path "$model" --eval_data "$WORLDS/world$1" \
                --eval_max_rows "$ROWS" --seed "$1" --output_dir "$folder" ${before[0]:+--compare "${before[@]}"} \
                > "$folder/log.txt" 2>&1 || { echo "$stage, seed $1 failed; see $folder/log.txt" >&2; return 1; }
            echo "$stage, seed $1: done"
        fi
        before+=("$folder")
    done
}
export -f diagnose
printf '%s\n' $SEEDS | xargs -P "$JOBS" -L 1 bash -c 'diagnose "$@"' _
found=()
for stage in $STAGES; do
    for folder in "$OUT/$stage"/*; do [ -f "$folder/diagnosis.json" ] && found+=("$folder"); done
done
echo; rlcomm show --seeds "${found[@]}"
