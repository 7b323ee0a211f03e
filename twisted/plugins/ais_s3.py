"""``twistd ais-s3``. Nothing of the server is imported before it is asked for; see ``aisobj.tap``."""

from twisted.application.service import ServiceMaker

ais_s3 = ServiceMaker("ais-s3", "aisobj.tap", "An S3-compatible object server for machine-learning data.", "ais-s3")
