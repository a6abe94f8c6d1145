"""``python -m bitproof`` is ``bitproof``."""

from bitproof.cli import main

main()
