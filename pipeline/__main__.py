"""``python -m pipeline`` is ``bitproof``."""

from pipeline.cli import main

main()
