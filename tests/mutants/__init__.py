"""Mistakes of one line that a test must notice, and the campaign that makes each and sees to it."""
