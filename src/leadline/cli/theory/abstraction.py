"""`leadline theory abstraction`."""
