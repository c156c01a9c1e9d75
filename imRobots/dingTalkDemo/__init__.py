"""An instance: configuration only (config.json). The code is in imRobots.dingTalkStreamType."""
