"""Run the program as another Unix user: ``python -m e2e.as_other_user UID GID COMMAND …``.

COMMAND is one JSON list of words. Everything that has to be imported is imported first, as
whoever started this, since the interpreter's own files may be closed to the other user.
"""

from __future__ import annotations

import json
import os
import sys

from e2e.house import cli


def main(uid: int, gid: int, commands: list[list[str]]) -> None:
    for words in commands:
        cli(*words)
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    os.environ["HOME"] = "/"
    ran = [cli(*words) for words in commands]
    sys.stdout.write(json.dumps([[one.code, one.out, one.err] for one in ran]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [json.loads(text) for text in sys.argv[3:]])
