"""Report in, text or files out. Renderers lay out and never compute; user text is never markup."""
