"""`leadline theory experiments`."""
