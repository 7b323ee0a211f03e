"""``python -m aisobj.cli``."""

from aisobj.cli.main import main

main(prog_name="ais")
