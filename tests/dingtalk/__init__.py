"""Unit tests of the DingTalk Type, one file per module."""
