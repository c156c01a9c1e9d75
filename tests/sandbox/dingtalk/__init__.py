"""All of the sandbox that is DingTalk's: a stand-in of it, the real one, and what goes between it and the robot."""
