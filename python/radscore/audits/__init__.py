"""Tests of models, one file each: `open`, `closed`, `membership`, and `radioactivity` over them."""
