"""What runs where the model runs, behind serve.py: TGI's HTTP interface and an engine with continuous batching.

    app.py         the HTTP interface: routes, limits, answers
    chat.py        a chat as a prompt, and its completion as an answer
    validation.py  what a request may ask for, and how it is refused
    completion.py  one completion in progress, and choosing its next token
    engine.py      the batch that completions join and leave, and the prompts that are kept
    plain.py       the same for models with other layers than ordinary attention, one row at a time
    cache.py       keys and values of the rows of the batch
    attention.py   attention over a prompt that many rows share, and over a row's own tokens
    packed.py      weights in the order that a processor reads them fastest
    quantized.py   weights and inputs in 8 bits

What does not belong here: the client's side (`selfalign.llm`), and loading a model (serve.py).
"""
