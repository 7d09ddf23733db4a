#!/usr/bin/env bash
# Seeds for every recipe, from The Stack V1: bash experiments/seeds.sh [--published] [options of experiments/recipe.sh]
#
# Paper, section 2.1 and appendix B: 5,359,051 Python functions with docstrings become 248,934 seeds. The recipes with
# 37k seeds take the first 37,000: the seeds are in the order of their ids, which is a random one.
#
# Needs     access to bigcode/the-stack-dedup (accept its terms on the Hub, then `hf auth login`), 100 GB of disk for
#           its Python files, and one GPU of 80 GB for StarCoder2-15B, which judges the docstrings
# Takes     not published. Type checking is what takes long on the CPU; --executor of collect_seeds.py spreads it
# Skip it   with --published: the seeds of StarCoder2-Instruct are on the Hub as
#           bigcode/python-stack-v1-functions-filtered-sc2. They have been through the paper's filters, judge included;
#           here they only get ids, and what our own filters drop of them is counted

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
only --published

if [ "${positional[0]:-}" = --published ]; then
    python collect_seeds.py bigcode/python-stack-v1-functions-filtered-sc2 "$out/seeds" --text-column content
    exit
fi

serve_generator starcoder2-15b
python collect_seeds.py hf://datasets/bigcode/the-stack-dedup/data/python "$out/seeds" --text-column content \
    --judge-docstrings "${server[@]}"
