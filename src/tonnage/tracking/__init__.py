"""What a model is doing while it is recorded: shared by the virtual GPU and the real devices."""
