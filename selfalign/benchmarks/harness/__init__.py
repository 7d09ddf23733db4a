"""What benchmarks have in common: the class `Benchmark`, and how problems and samples are read and answers judged.

What belongs here: code that several benchmarks use, or that benchmark.py needs for all of them. What does not: a
benchmark itself, which is a file in the folder above; talking to servers, which is `selfalign.llm`; the statistics of
scores, which are in `selfalign.report`.
"""
