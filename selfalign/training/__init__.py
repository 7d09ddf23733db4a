"""Fine-tuning beside its story in finetune.py: packing, adapters, checkpoints that survive a kill, the model folder.

What belongs here: what TRL's trainer does not do by itself. What does not: hyper-parameters, which are options of
finetune.py, and how a model is found by its name (`selfalign.models`).
"""
