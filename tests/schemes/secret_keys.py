"""Secrets that no text may show."""

SECRET = 7_312_345_678_901_234_567
HEX_SECRET = "5ec2e700c0ffee11deadbeef0badcafe"


def leaks(text):
    spellings = [str(SECRET), str(SECRET - 1), f"{SECRET:x}", HEX_SECRET, "\\x5e\\xc2", "^\\xc2"]
    return [spelling for spelling in spellings if spelling in text.lower()]
