"""How fast the robot is, beside what people would use instead: `python -m tests.bench`, or `pytest -m bench`.

Whole processes on real sockets: the stand-in DingTalk in the bench's own process, who answers in another one. What is
measured is in rounds.py, who is measured in contestants.py, what is to be reached in targets.py.
"""
