"""`leadline theory bias-variance`."""
