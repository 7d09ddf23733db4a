"""The paper's experiments.

What belongs here: a recipe for each system of the paper (*.sh), the data of its baselines (baselines/), its published
numbers (paper/), how its models are served (serving/) and trained on several GPUs (accelerate/), and what makes tasks
for experiments or compares their outputs (problem_tasks.py, languages.py, compare.py). What does not: the steps
themselves, which are the scripts in the root.
"""
