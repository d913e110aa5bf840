"""Audits: planned and committed before anything is asked, logged, and open to verification.

See docs/audits.md.
"""

from radscore.evidence.audit import Audit, Outcome
from radscore.evidence.bundle import write_bundle
from radscore.evidence.plan import Plan, read_settings
from radscore.evidence.report import page_of_audit, page_of_result
from radscore.evidence.verify import Verification, verify

__all__ = [
    "Audit",
    "Outcome",
    "Plan",
    "Verification",
    "page_of_audit",
    "page_of_result",
    "read_settings",
    "verify",
    "write_bundle",
]
