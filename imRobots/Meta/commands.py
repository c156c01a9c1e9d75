"""What people can tell a robot besides asking: the commands, in English and in Chinese.

Owns the words only; `robot.py` does what they say. Pure, any thread.
"""

from __future__ import annotations

from typing import Literal

Command = Literal["new", "stop", "good", "bad", "help", "status"]

_COMMANDS: dict[str, Command] = {
    "/new": "new",
    "/新会话": "new",
    "/stop": "stop",
    "/停止": "stop",
    "/good": "good",
    "/有帮助": "good",
    "/bad": "bad",
    "/没帮助": "bad",
    "/help": "help",
    "/帮助": "help",
    "/status": "status",
}


def read_command(text: str, *, from_admin: bool) -> Command | None:
    """The command that a message is, None if it is for the agent: then it may begin with a slash all the same.

    `/status` is one for administrators only.
    """
    word = text.strip().lower()
    command = _COMMANDS.get(f"/{word[1:]}" if word.startswith("／") else word)  # as a Chinese keyboard writes it
    return None if command == "status" and not from_admin else command
