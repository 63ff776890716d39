"""Whether a container's processes may open files of this machine. A program of its own, with the standard library only.

    python -I -S opening.py CGROUP_PROCS NODE...

It opens each node, goes into the control group whose `cgroup.procs` is named, and opens each again: where the device
rules of the group refuse, the second attempt fails. It prints two error numbers for each node, 0 where it was opened.
Nothing of the container is run or looked at. A fork of the daemon could do the same, and must not: it has threads.
"""

import os
import sys


def attempt(node: str) -> int:
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or -1
    return 0


def main() -> None:
    procs, nodes = sys.argv[1], sys.argv[2:]
    before = [attempt(node) for node in nodes]
    with open(procs, "w") as group:
        group.write("0")  # this process, whatever its number is in other namespaces
    for first, node in zip(before, nodes, strict=True):
        print(first, attempt(node))


if __name__ == "__main__":
    main()
