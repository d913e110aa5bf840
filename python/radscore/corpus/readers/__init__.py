"""Readers that several layouts share; none of them knows which."""
