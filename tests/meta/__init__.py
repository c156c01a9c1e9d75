"""Unit tests of `imRobots.Meta`, one file per module."""
