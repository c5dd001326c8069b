"""PEFT's own tests, run on our tuner: `python -m tests.peft_suite` (`make peft-suite`).

The tests come with the source distribution of the installed PEFT, which pip downloads, or from a checkout of it.
"""
