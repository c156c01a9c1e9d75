"""Reads the platform's messages and answers them. `take` runs on the client's thread, `EchoReply` on the outbox's."""

import json

from imRobots.Meta import IncomingMessage, Robot, log, texts_to
from imRobots.Meta.config import RobotConfig


class EchoConfig(RobotConfig):
    """`port`: where the echo platform listens on this computer."""

    port: int


class EchoReply:
    """The `Reply` of imRobots.Meta. Its handle is the id of the message: the platform has one card for each."""

    def __init__(self, send, message, language):
        self.texts = texts_to(language, message)
        self.card = None
        self._send, self._id = send, message.message_id

    def open(self, question):
        self._show(self.texts.thinking)
        return self._id

    def progress(self, handle, text):
        self._show(text)

    def finish(self, handle, text, outcome):
        self._show(text, final=True)

    def say(self, sentence):
        self._show(sentence, final=True)

    def _show(self, text, final=False):
        self._send({"to": self._id, "text": text, "final": final})


class EchoHandler:
    def __init__(self, element, config, store, send):
        """`send` is the client manager's, because this platform takes answers over the same socket."""
        self._robot = Robot(element, config, lambda m: EchoReply(send, m, config.language), store)

    def take(self, line):
        message = read_message(line)
        if message:
            self._robot.submit(message)
        else:
            log.warning("A line that is no message was ignored")

    def close(self, deadline):
        self._robot.close(deadline)


def read_message(line):
    """Never raises: None for what is no message."""
    try:
        data = json.loads(line)
        message_id, person, text = str(data["id"]), str(data["from"]), data.get("text")
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    read = text.strip() if isinstance(text, str) else ""
    problem = "" if read else "empty" if isinstance(text, str) else "unsupported"
    return IncomingMessage(
        message_id, conversation_id=person, sender_id=person, sender_name=person, text=read, problem=problem
    )
