"""Recording in, plain results out: what a run was made of, in integers, each saying how it is known.

Results are frozen msgspec Structs, so that a Report is made of them as they are: what an analysis finds is what is
printed, written to JSON and described by the JSON Schema. Nothing here imports torch.
"""
