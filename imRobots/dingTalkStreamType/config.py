"""What config.json of a DingTalk instance may hold, beyond the keys of every IM robot."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from imRobots.Meta.config import RobotConfig


class DingTalkConfig(RobotConfig):
    """`clientId` and `clientSecret`: from the DingTalk developer console, Credentials and Basic Information.

    `proxy`: through which DingTalk is reached, `http://`, `socks5://` or `socks5h://` (names are looked up by the
    proxy), with `user:password@` if it wants them. `caFile`: the only certificates to trust, as a PEM file.
    """

    clientId: str
    clientSecret: str = Field(repr=False)
    proxy: str = Field(default="", repr=False)
    caFile: str = ""

    @field_validator("caFile")
    @classmethod
    def _is_a_file(cls, value: str) -> str:
        if not os.path.isfile(value):
            raise ValueError("there is no such file")
        return value

    @field_validator("proxy")
    @classmethod
    def _is_a_proxy(cls, value: str) -> str:
        try:
            address = urlsplit(value)
            usable = address.scheme in ("http", "socks5", "socks5h") and bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be http://host:port, socks5://host:port or socks5h://host:port")
        return value
