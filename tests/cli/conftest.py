"""Tests of the command line work in the folder of a user."""

from user_toys import desk, trained, verb, workplace

__all__ = ["desk", "trained", "verb", "workplace"]
