"""The engine of serve.py: continuous batching of a transformers model, and the HTTP interface before it.

What belongs here: what runs where the model runs. What does not: the client's side (`selfalign.llm`).
"""
