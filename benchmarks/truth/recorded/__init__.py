"""What `record.py` runs on a card, what it keeps of it, and how that is held against the virtual GPU."""
