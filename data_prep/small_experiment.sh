#!/usr/bin/env bash
# Packs the text of yamls/experiments/small.yaml: small_experiment.md says what it contains.
#
#   data_prep/small_experiment.sh CORPORA OUT
set -euo pipefail
corpora=${1:?folder of small open corpora, with pretrain/}/pretrain
out=${2:?folder to write}

text() {  # GROUP SPLIT NAME...: the files of the named corpora
    local group=$1 split=$2; shift 2
    printf "$corpora/$group/%s.$split.jsonl.zst\n" "$@"
}

en_general=(en_general en_eltec en_openstax_general_by en_openstax_general_nc en_wikitext2)
fr_general=(fr_general fr_eltec fr_code_civil)
en_bio=(en_bio en_e3c_cases en_medquad en_openstax_bio en_plos en_pmc_rct)
fr_cases=(fr_bio fr_e3c_cases)
fr_leaflets=(fr_bio fr_leaflets)

files() { local -n names=$1; text "${names[0]}" "$2" "${names[@]:1}"; }

mkdir -p "$out"
# 16 MB of French leaflets would be a third of the vocabulary's text: the tokenizer sees all text except them.
detour data tokenizer train $(files en_general train) $(files fr_general train) $(files en_bio train) $(files fr_cases train) \
    --out "$out/tokenizer" --vocab-size 8192
mkdir -p "$out/texts"  # held-out texts of the domain, for the analysis of hidden states
cp $(text en_bio val en_e3c_cases en_medquad) $(files fr_cases val) "$out/texts"
for name in en_general fr_general en_bio fr_cases fr_leaflets; do
    for split in train val; do
        detour data pack $(files $name $split) --tokenizer "$out/tokenizer" --out "$out/$name-$split" --seq-len 512
    done
done
