"""Closed forms found by asking: change one size at a time and see what follows it.

Whatever is counted is a table of names and whole numbers (parameters and their shapes, operators and their work),
and `ask(changes)` makes it anew for other sizes. `derive` finds, for every number in it, the polynomial of the sizes
that it is; `prove` evaluates the whole at sizes it was not derived from. Nothing here knows what a model is.
"""
