"""What the pages of docs/ and the README show of the program, written by the program.

    make docs

A page is written by hand, but for two kinds of places: blocks between
``<!-- generated: NAME -->`` and ``<!-- end -->``, and fenced blocks under ``<!-- run -->``,
whose commands are run in a folder of their own and whose output is put below them.
"""
