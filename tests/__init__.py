"""Tests of the robot family; run them from the project root."""
