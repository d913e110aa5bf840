"""Rehearsals: play Alice and Bob with models at hand, and measure how strong each test is."""
