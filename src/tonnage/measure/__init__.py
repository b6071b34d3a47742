"""The same recording from a real device: recorders for what runs, and PyTorch's memory snapshots in and out."""
