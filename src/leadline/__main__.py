"""`python -m leadline` and `accelerate launch -m leadline`."""

from leadline.cli import main

main()
