"""The published scripts, as their authors ran them, on the virtual GPU: a module for each group, with `run(row)`.

Nothing is tuned to a row: a script is what the row's `script` and `notes` say was run, and the only card, version and
sizes it names are the row's.
"""
