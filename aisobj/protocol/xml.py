"""XML documents in and out, in AWS's element names, order and namespace.

The readers are in ``xmlread``, the writers in ``xmlwrite``; this module is the one to import.
"""

from __future__ import annotations

from aisobj.protocol.xmlwrite import error_document

__all__ = ["error_document"]
