"""`leadline theory landscape`."""
