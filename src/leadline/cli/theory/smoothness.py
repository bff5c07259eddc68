"""`leadline theory smoothness`."""
