#!/usr/bin/env bash
# Seeds for every recipe, from The Stack V1:
#
#     bash experiments/seeds.sh [--published | --type-checker-python PYTHON] [options of experiments/recipe.sh]
#
# Paper, section 2.1 and appendix B: 5,359,051 Python functions with docstrings become 248,934 seeds. Recipes that use
# 37k seeds take the first 37,000: the seeds are ordered by their ids, and so at random.
#
# --published  starts from the seeds of StarCoder2-Instruct, bigcode/python-stack-v1-functions-filtered-sc2 on the Hub.
#              They have already been through the paper's filters, including the judge; here they are given ids, and it
#              is counted how many of them our own filters drop
#
# --type-checker-python PYTHON  an interpreter with the packages that seeds may import, such as scipy and nltk. Without
#              it, functions are dropped that import what the environment of this project does not have. Which packages
#              the authors had is not published
#
# Needs     access to bigcode/the-stack-dedup (accept its terms on the Hub, then `hf auth login`), 100 GB of disk space
#           for its Python files, and one GPU of 80 GB for StarCoder2-15B, which judges the docstrings
# Takes     a time that was not published. Most of it is type checking on the CPU, which collect_seeds.py can distribute
#           with --executor

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
types=()
if [ "${positional[0]:-}" = --type-checker-python ]; then
    [ ${#positional[@]} -eq 2 ] || fail "--type-checker-python takes an interpreter"
    types=("${positional[@]}") positional=()
fi
only --published

if [ "${positional[0]:-}" = --published ]; then
    python collect_seeds.py bigcode/python-stack-v1-functions-filtered-sc2 "$out/seeds" --text-column content \
        "${kept_out[@]}"
    exit
fi

# The paper's and the reference implementation's settings, where ours differ (docs/fidelity.md).
as_published=(--unsafe-imports reference --broken-files salvage --duplicates first --shuffle-shots)
serve_generator starcoder2-15b
python collect_seeds.py hf://datasets/bigcode/the-stack-dedup/data/python "$out/seeds" --text-column content \
    "${kept_out[@]}" "${as_published[@]}" ${types[@]+"${types[@]}"} --judge-docstrings "${server[@]}"
