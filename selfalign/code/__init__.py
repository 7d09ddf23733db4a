"""Python, JavaScript and Markdown as text: parsing untrusted code, functions, type checkers, mutants, near-duplicates,
benchmarks' problems in disguise.

What belongs here: functions from text to text or to a verdict, which know nothing of datasets. What does not: running
code (`code_eval`), reading files, datasets or benchmarks, and the rules by which a step keeps or drops rows
(`selfalign.data`).

    parsing            syntax trees of code that nobody has checked
    markdown           code blocks and sections
    functions          the functions of a file, each with the imports that it needs
    syntax_tokens      functions as tokens, which stay the same when names, comments or formatting change
    contamination      texts that contain a benchmark's problem or its solution
    near_duplicates    texts that are equal or almost equal
    type_checkers      functions that pass a type checker
    mutation           small changes to a program that its tests should notice
    feedback           which assertion of a failing program fails, and what the value was instead
    javascript         syntax trees and functions of JavaScript

What begins with `javascript_` is the same for JavaScript.
"""
