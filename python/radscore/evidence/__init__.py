"""Audits: planned and committed before anything is asked, logged, and open to verification."""
