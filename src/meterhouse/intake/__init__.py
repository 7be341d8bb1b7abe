"""From landed bytes to verdicts: contracts, the strict parser, rules, deduplication.

Everything here is pure: bytes, a contract and what was taken before go in, rows come
out. Nothing here asks for the time, opens a network connection or knows the log.
"""
