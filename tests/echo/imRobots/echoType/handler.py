"""Reads the platform's messages and answers them. `take` runs on the client's thread, `EchoReply` on the outbox's."""

from imRobots.Meta import IncomingMessage, Robot, texts_for
from imRobots.Meta.config import RobotConfig


class EchoConfig(RobotConfig):
    """`port`: where the echo platform listens on this computer."""

    port: int


class EchoReply:
    """The `Reply` of imRobots.Meta. Its handle is the id of the message: the platform has one card for each."""

    def __init__(self, send, message, language):
        self.texts = texts_for(language, message.text)
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
    def __init__(self, element, config, store):
        self.send = None  # the client manager's, once it runs
        self._robot = Robot(element, config, lambda m: EchoReply(self.send, m, config.language), store)

    def take(self, data):
        text = data.get("text", "").strip()
        problem = "" if text else "empty" if "text" in data else "unsupported"
        self._robot.submit(IncomingMessage(data["id"], data["from"], data["from"], data["from"], text, problem))

    def close(self, deadline):
        self._robot.close(deadline)
