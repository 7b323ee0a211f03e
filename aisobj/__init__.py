"""ais-s3: an S3-compatible object server for machine-learning data, on Twisted.

The package is built in floors, and a module imports only from lower floors: ``errors``, ``model``, ``checksums`` and
``metrics`` (0), ``protocol`` (1), ``storage`` (2), ``web`` (3), ``s3`` and ``ais`` (4), ``tap`` (5). ``client`` and
``cli`` stand beside them and import floor 0 only. ``docs/architecture.md`` says why.
"""

__version__ = "0.1.0"
