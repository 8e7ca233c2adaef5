#!/usr/bin/env bash
# A tiny encoder of French, its detour and its twin, in minutes on one idle core: stand-ins for the arms of
# yamls/experiments/small.yaml in docs/results/heads.md and docs/results/retention.md.
#
#   scripts/small_standin.sh DATA OUT      DATA is what data_prep/small_experiment.sh packed
set -euo pipefail

if [[ $# != 2 ]]; then
    echo "usage: scripts/small_standin.sh DATA OUT" >&2
    exit 2
fi

export DETOUR_SMALL_DATA=$1
out=$2
experiments=$(dirname "${BASH_SOURCE[0]}")/../yamls/experiments
common=(folder="$out/runs" data.global_batch_size=4 data.micro_batch_size=4 evaluation.rows=16)

detour train "$experiments/small_base.yaml" name=base "${common[@]}" evaluation.interval_tokens=500_000 \
    data.train.0.path="$DETOUR_SMALL_DATA/fr_cases-train" data.validation.0.path="$DETOUR_SMALL_DATA/fr_cases-val" \
    phases.0.tokens=500_000 phases.1.tokens=150_000 schedule.warmup_tokens=40_000
detour export "$out/runs/base" --out "$out/base"

arm() {  # NAME, then its first phase
    detour train "$experiments/small_arm.yaml" name="$1" "${common[@]}" evaluation.interval_tokens=1_000_000 \
        model.init="$out/base" schedule.warmup_tokens=20_000 data.train="[{path: $DETOUR_SMALL_DATA/fr_cases-train}]" \
        data.validation="[{path: $DETOUR_SMALL_DATA/fr_cases-val}, {path: $DETOUR_SMALL_DATA/fr_general-val}]" \
        phases="[{name: stable, tokens: 200_000, $2}, {name: decay, tokens: 60_000, objective: mlm, options: {rate: 0.15}}]"
    detour export "$out/runs/$1" --out "$out/$1"
}
arm detour "objective: clm"
arm mlm_twin "objective: mlm, options: {rate: 0.3}"
