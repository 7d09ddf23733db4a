"""Fine-tuning beside its story in finetune.py.

    loading.py       the base model and its tokenizer; adapters
    packing.py       several examples in one sequence
    checkpoints.py   checkpoints that survive a kill
    trainers.py      TRL's trainers as they are used here; importing it takes seconds
    model_folder.py  the output: resumed, finished, described, uploaded

What belongs here: what TRL's trainers do not do by themselves. What does not: hyper-parameters, which are options of
finetune.py, and how a model is found by its name (`selfalign.models`).
"""
