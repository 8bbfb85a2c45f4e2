"""Prints as many free ports as asked for, all different."""

import socket
import sys


def free_ports(count: int) -> list[int]:
    # All are held until all are known; otherwise the same one could come twice.
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
