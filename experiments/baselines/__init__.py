"""The data of the paper's baselines: OctoPack, Evol-Instruct, OSS-Instruct, direct distillation, and random snippets.

What belongs here: a step for each kind of data, which the recipes in experiments/ run. What does not: the recipes.
"""
