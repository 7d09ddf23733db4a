"""What fine-tuning and reinforcement need besides what finetune.py and reinforce.py tell.

    options.py       the options that both have
    loading.py       the base model and its tokenizer; adapters
    chats.py         chats as a chat template writes them
    checkpoints.py   checkpoints that survive a kill
    trainers.py      TRL's trainers as they are used here
    model_folder.py  the output: resumed, finished, described, uploaded

What belongs here: what TRL's trainers do not do by themselves. What does not: hyper-parameters, which are options of
the scripts, and how a model is found by its name (`selfalign.models`).
"""
