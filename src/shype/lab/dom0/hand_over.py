"""Has `shype.lab.dom0.warm` run a shype command that does not come over the lab's channel, as one
of ssh's: with this process's descriptors, directory and environment.

``python3 -I -S hand_over.py SOCKET shype WORD...``; it ends as the command does.  Only modules
that are quickly imported.
"""

import _socket
import json
import os
import sys


def main(argv: list[str]) -> int:
    """Hand the command over and wait; without the interpreter, become it."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    if link.connect_ex(argv[0]):
        os.execvp(argv[1], argv[1:])
    request = {"program": "shype.cli.main", "argv": argv[1:], "env": dict(os.environ),
               "cwd": os.getcwd()}  # noqa: PTH109 - pathlib is slow here
    handles = b"".join(handle.to_bytes(4, sys.byteorder) for handle in (0, 1, 2))
    link.sendmsg([json.dumps(request).encode()],
                 [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handles)])
    for handle in (0, 1):  # the command has them: their ends are its own
        os.close(handle)
    link.recv(64)  # its process id
    return int(link.recv(64) or b"-9") % 256


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
