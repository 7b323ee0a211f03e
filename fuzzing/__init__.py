"""Fuzzing of everything that reads what a client sends, or what a disk gives back.

    python -m fuzzing [TARGET ...] --runs 10000000 --seconds 600 --seed 1

Each target (``targets/``) is a function of bytes that raises where a promise is broken. The promises are stronger than
"no exception": only the declared errors come out, what we made we read back, the same bytes in other pieces give the
same, a plain reference reads the same. docs/reliability.md has the list, and what was measured.

Where atheris is installed (it comes with ``.[test]`` where it can be had) libFuzzer drives the targets, guided by the
coverage of our code; otherwise mutations of the corpus do (``mutate``), guided by what a target says of each input.
"""
