"""``python -m aisobj.tools``, for where the script is not installed."""

from aisobj.tools.main import main

main(prog_name="ais-s3")
