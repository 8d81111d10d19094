"""Where videos come from: local files and folders, HTTP servers and object stores.

`fetch.fetch` is the way in. It reads local files in place and copies everything else to scratch space:

    local.py         a path → a regular file inside the configured roots, and its hash
    addresses.py     a host → the addresses that may be connected to
    connections.py   connections to exactly those, within a time limit
    download.py      HTTP(S) → a partial file
    s3.py            an object store → a partial file
    scratch.py       partial and whole files, bounded, shared by processes
    directory.py     a folder → the files in it that are finished

Knows nothing of what is in a file.
"""
