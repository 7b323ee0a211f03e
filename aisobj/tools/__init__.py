"""The programs of ``ais-s3``: what an operator runs beside a server, or instead of one, on its data directory."""
