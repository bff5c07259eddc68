"""`leadline theory linearity`."""
