"""Tests of models: one file a test."""
