"""Processes and their cost: pools that survive a crash, CPU time, what this machine has."""
