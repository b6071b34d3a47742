"""Models as transformers had them when the rows were measured, one file per family.

Written anew after the library's files of the version that each names, in its order of operations and with its lifetimes
of tensors: what a local variable or an output holds on to is memory. Parameters have the library's names.
"""
