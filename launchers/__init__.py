"""Starts the program in several processes: over Horovod on this and other machines, and on a cluster."""
