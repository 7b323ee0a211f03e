"""Programs that try to make a real server lose data, and see whether it has; docs/reliability.md has what they promise.

    python -m reliability.crash        kill -9 of master, workers and index writer under a mixed load
    python -m reliability.order        in which order a write syncs, renames and answers
    python -m reliability.powercut     power cuts of an ext4 and an xfs in a file
    python -m reliability.blockstates  every state that a disk with a cache may be in after a power cut
    python -m reliability.killpoints   a SIGKILL before every system call of the core operations
    python -m reliability.flips        a changed byte, one at a time, anywhere in blobs and rows
    python -m reliability.histories    whether what concurrent clients saw can have happened in some order
    python -m reliability.malformed    mangled requests, most of them under signatures that are right
    python -m reliability.smuggling    nginx in front: does it read each request as the server does?
    python -m reliability.faults       failing system calls of a running server, and a disk that is full

Each says with ``--help`` what it takes, prints its seed and what it has measured as one line of JSON, and ends with
status 1 where a promise is broken.
"""
