"""Talking to models: everything between a prompt and the samples that come back.

`endpoint` is what a step calls; below it are `fleet` and `replica` (which server gets a request, and what happens when
one fails), `concurrency` (how many requests a server gets), `client` with `tgi` and `openai` (the two protocols),
`probe` (whether a server does what it is asked) and `usage` (what was asked of it). A `completion` is what comes back,
without its `reasoning`. `prompts` has templates and worked examples, `chat_template` what a chat model sees of a
question, and `local_server` starts serve.py for a model folder.

Rows, datasets and runs do not belong here but in `selfalign.runner`; the engine behind serve.py is in `server`.
"""
