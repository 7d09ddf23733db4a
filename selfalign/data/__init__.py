"""What is done with rows: which seeds and samples are kept, and why the others are not; what else samples become; and
what datasets are checked by.

What belongs here: filters, the choice among samples, duplicates, preferences, keeping benchmarks out, and where step 1
finds files. What does not: how code is parsed and compared (`selfalign.code`), how a step runs (`selfalign.runner`).

    python_files       step 1: the files of this machine
    seeds              step 1: filters for functions
    decontamination    steps 1 and 6: benchmarks whose problems must not be in the data
    duplicates         steps 1 and 6: rows that repeat each other
    languages          all steps: the programming language of a row, and its code in that language
    filters            step 6: filters for the format of a sample
    selection          step 6: the samples, and the choice of one for each task
    agreement          step 6: which of several passing samples most others agree with
    consensus          step 6: which samples compute what most others do; `inputs`, `observing` and `dialects` say on
                       what, how that is seen, and what is different in each language. `inputs` reads Python's tests
                       with `claims` (what a statement claims), `needs` (what a call needs of those before it), `loops`,
                       and `shadows` (variables named like built-in functions)
    examples           step 6: the chats to train on, and pairs of a passing and a failing sample
    conversations      step 6 and verify.py: what of a row is trained on, and the chat that a repair becomes
    repairs            repair.py: failures to mend, and answers that are no repairs
    difficulty         runs/rounds.py: which concepts a round begins with
    audit              audit.py: how well each way to select picks correct code
    verification       verify.py: whether a dataset is what it says it is
    exports, environments    export.py: the formats of other trainers, and tasks as environments

What begins with `javascript_` is the same for JavaScript.
"""
