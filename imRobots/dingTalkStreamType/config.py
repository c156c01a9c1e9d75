"""What config.json of a DingTalk instance may hold, beyond the keys of every IM robot."""

from __future__ import annotations

from pydantic import Field

from imRobots.Meta.config import RobotConfig


class DingTalkConfig(RobotConfig):
    """`clientId` and `clientSecret`: from the DingTalk developer console, Credentials and Basic Information."""

    clientId: str
    clientSecret: str = Field(repr=False)
