"""Runs a program on a terminal of its own and answers it: what it printed, as a screen would show it, and how it ended.

Arguments: columns, a JSON list of [text to wait for, what is typed then], the program and its arguments.
"""

import json
import os
import pty
import select
import struct
import sys
import termios
import fcntl
import time

# Enough for the slowest machine, and no more than a test may take.
PATIENCE = 60

columns, steps = int(sys.argv[1]), json.loads(sys.argv[2])
child, terminal = pty.fork()
if child == 0:
    # The size must be there before the program asks for it.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.execv(sys.argv[3], sys.argv[3:])

seen, deadline = b"", time.monotonic() + PATIENCE


def more():
    """Reads what is there; False at the end."""
    global seen
    if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        sys.exit("nothing came: " + seen.decode(errors="replace")[-2000:])
    try:
        data = os.read(terminal, 4096)
    except OSError:
        return False
    seen += data
    return bool(data)


start = 0
for wanted, typed in steps:
    while (at := seen.find(wanted.encode(), start)) < 0:
        if not more():
            sys.exit(f"it ended before {wanted!r}: " + seen.decode(errors="replace")[-2000:])
    start = at + len(wanted)
    # What is typed belongs behind the mark of the prompt.
    while (at := seen.find(b"> ", start)) < 0:
        more()
    start = at + 2
    os.write(terminal, typed.encode())
while more():
    pass
_, status = os.waitpid(child, 0)
how = os.WTERMSIG(status) + 128 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
sys.stdout.write(json.dumps({"exit": how, "screen": seen.decode(errors="replace").replace("\r\n", "\n")}))
