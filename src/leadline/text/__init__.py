"""Text-to-image pipelines: loaded, trained small from scratch, and drawn from."""
