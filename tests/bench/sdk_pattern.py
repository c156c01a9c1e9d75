"""What the official SDK offers for this: its `AsyncChatbotHandler` with its own pool, and its AI markdown card.

Only for the bench. A text is streamed whenever it has grown by 20 characters, as the SDK's own sample does it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dingtalk_stream import AckMessage, AsyncChatbotHandler, ChatbotMessage, Credential, DingTalkStreamClient

from tests.bench.agent import SleepingAgent

BUTTONS = [{"text": "👍", "color": "gray", "id": "helpful", "request": True}]


class SdkPattern(AsyncChatbotHandler):
    def __init__(self, agent: SleepingAgent) -> None:
        super().__init__()
        self.agent = agent

    def process(self, callback: Any) -> tuple[int, str]:
        message = ChatbotMessage.from_dict(callback.data)
        question = message.text.content.strip()
        card = self.ai_markdown_card_start(message, title=question)
        text, shown = "", 0

        def stream(chunk: dict[str, Any]) -> None:
            nonlocal text, shown
            text += chunk["data"]["content"]
            if len(text) - shown > 20:
                card.ai_streaming(text)
                shown = len(text)

        answer = self.agent.run({"input_data": question}, message.sender_staff_id, stream)
        card.ai_finish(answer, button_list=BUTTONS)
        return AckMessage.STATUS_OK, "OK"


def run(agent: SleepingAgent, client_id: str, client_secret: str) -> None:
    client = DingTalkStreamClient(Credential(client_id, client_secret))
    client.register_callback_handler(ChatbotMessage.TOPIC, SdkPattern(agent))
    asyncio.run(client.start())
