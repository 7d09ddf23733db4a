"""The rules of steps 1 and 6: which seeds and which samples are kept, and why the others are not.

What belongs here: filters, the choice among samples, duplicates, preferences, keeping benchmarks out, and where step 1
finds files. What does not: how code is parsed and compared (`selfalign.code`), how a step runs (`selfalign.runner`).

    python_files       step 1: the files of this machine
    seeds              step 1: filters for functions
    decontamination    both: benchmarks whose problems must not be in the data
    duplicates         both: rows that repeat each other
    filters            step 6: filters for the format of a sample
    selection          step 6: the samples, and the choice of one for each task
    agreement          step 6: which of several passing samples most others agree with
    examples           step 6: the chats to train on, and pairs of a passing and a failing sample
"""
