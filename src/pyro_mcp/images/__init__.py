"""Environments: what can be installed, how it is built, where it is kept, and how a VM gets hold of it.

    catalog   what there is            source, debian   where a root file system comes from
    store     what is installed        pull, prune      how that changes
    disk      blank disks that lie above an environment

Everything below the cache folder is written by rename, so that a reader sees an environment whole or not at all.
"""
