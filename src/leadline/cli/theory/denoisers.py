"""`leadline theory denoisers`."""
