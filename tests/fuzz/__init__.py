"""Hostile input: every file that handgrad reads and every question of the explorer, spoilt at random.

`python3 -m tests.fuzz --inputs 1000000` is the long run; test_fuzz.py has a short one.
"""
