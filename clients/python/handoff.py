#!/usr/bin/env python3
"""Joins stdin and stdout to a node over a connection that portolan has dialed and handed off.

    handoff.py NODE

The daemon passes the connected TCP socket (SCM_RIGHTS) and leaves the path. Where it can't, it says why (exit code 3).
"""

import os
import socket
import sys
import threading
import urllib.parse


class Refused(Exception):
    """The daemon says no; the text is the problem body."""


def connect(node, path):
    """The TCP socket of a connection to the node: blocking, and this process's alone."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(path)
        name = urllib.parse.quote(node, safe="@")
        daemon.sendall(f"GET /v1/connect/{name}?handoff=1 HTTP/1.1\r\nHost: portolan\r\n"
                       "Connection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n".encode())
        # The descriptor comes with the first byte: a recv without room for it would lose it.
        answer, descriptors, flags, _ = socket.recv_fds(daemon, 4096, 1)
        upstream = socket.socket(fileno=descriptors[0]) if descriptors else None
        if upstream:
            upstream.set_inheritable(False)  # recv_fds passes no flags on, and so no MSG_CMSG_CLOEXEC
        while b"\r\n\r\n" not in answer and (more := daemon.recv(4096)):
            answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"\r\nPortolan-Handoff: 1" in head:
            if upstream is None:
                raise OSError("the descriptor did not arrive: is the limit of descriptors reached?")
            return upstream
        while more := daemon.recv(4096):
            body += more
        raise Refused(body.decode())


def send(upstream):
    while data := os.read(0, 65536):
        upstream.sendall(data)
    upstream.shutdown(socket.SHUT_WR)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        upstream = connect(sys.argv[1], os.environ.get("PORTOLAN_SOCKET", "/run/portolan/portolan.sock"))
    except Refused as refused:
        print(refused, file=sys.stderr)
        sys.exit(3)
    threading.Thread(target=send, args=[upstream], daemon=True).start()
    while data := upstream.recv(65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
