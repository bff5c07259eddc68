"""Denoisers: the interface, the depth family, pretrained checkpoints."""
