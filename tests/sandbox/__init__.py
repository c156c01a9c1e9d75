"""A robot to talk to in a terminal, without DingTalk and without JitAi: `python -m tests.sandbox`."""
