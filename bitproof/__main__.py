"""``python -m bitproof`` is ``bitproof``."""

from bitproof.pipeline.cli import main

main()
