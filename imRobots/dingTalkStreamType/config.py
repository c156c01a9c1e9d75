"""What config.json of a DingTalk instance may hold, beyond the keys of every IM robot."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from imRobots.Meta.config import RobotConfig


class CardVariables(BaseModel):
    """What the variables of the AI card's template are called; "" for one that it does not have.

    `content` (of the type markdown) is the answer. `title`: the question. `note`: a line for one person, thanks say.
    `buttons`: `sys_full_json_obj` as in the SDK's public template, or a variable of the type button group. `status`:
    of the card's flow, from 1 to 5.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    content: str = Field(default="msgContent", min_length=1)
    title: str = "msgTitle"
    note: str = "staticMsgContent"
    buttons: str = "sys_full_json_obj"
    status: str = "flowStatus"

    @model_validator(mode="after")
    def _are_different(self) -> CardVariables:
        names = [name for name in self.model_dump().values() if name]
        if len(set(names)) < len(names):
            raise ValueError("two of the names are the same")
        return self


class AnswerConfig(RobotConfig):
    """How answers look. `cardType`: the first choice of the ladder. `cardTemplateId`, `cardVariables`: of AI cards."""

    cardType: Literal["standard", "ai", "markdown"] = "standard"
    # The SDK's public template (card_instance.py, AIMarkdownCardInstance).
    cardTemplateId: str = "382e4302-551d-4880-bf29-a30acfab2e71.schema"
    cardVariables: CardVariables = CardVariables()


class DingTalkConfig(AnswerConfig):
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
