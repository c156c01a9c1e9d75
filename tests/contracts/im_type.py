"""What a person may expect of a robot of any IM Type. A Type's tests inherit `IMTypeContract` and bring a `Chat`."""

from __future__ import annotations

import json
import threading
from typing import Any, Protocol

import pytest

from imRobots.Meta import ConfigError
from tests.fakes.agents import DocumentedAgent, ReferenceAgent
from tests.fakes.host import FakeHost


class Chat(Protocol):
    """One running instance of a Type, seen from the chat and from the host."""

    host: FakeHost
    instance: str
    """The fullName of the instance."""

    def say(self, text: str | None, sender: str = "Ann", message_id: str | None = None) -> str:
        """Send a message as a person (None: a picture); returns its id."""

    def answer(self, message_id: str) -> str:
        """Wait for the last word to a message; returns its text."""

    def shown(self, message_id: str) -> list[str]:
        """Every text that was shown for a message so far, in order."""

    def connections(self) -> int:
        """Connections of the robot to the platform, after those that are on their way are there."""


class IMTypeContract:
    """Inherit it and define a fixture `chat`, which boots the instance with `ReferenceAgent("Hello!")` as its agent."""

    def test_a_question_is_answered(self, chat: Chat) -> None:
        question = chat.say("How are you?")
        assert chat.answer(question) == "Hello!"
        assert "Thinking" in chat.shown(question)[0]

    def test_an_answer_grows(self, chat: Chat) -> None:
        gate = threading.Event()
        chat.host.add("aiagents.ragTest", DocumentedAgent("one two three four five six", gate=gate))
        question = chat.say("How are you?")
        gate.set()
        assert chat.answer(question) == "one two three four five six"
        texts = chat.shown(question)[1:]
        assert all("one two three four five six".startswith(text) for text in texts)

    def test_the_agent_runs_in_a_context_for_the_person_who_asks(self, chat: Chat) -> None:
        agent = ReferenceAgent("Hello!")
        chat.host.add("aiagents.ragTest", agent)
        chat.answer(chat.say("Who am I?", sender="Bob"))
        (call,) = agent.calls
        assert call.text == "Who am I?"
        assert "Bob" in call.chatId
        assert call.user is not None

    def test_a_message_that_is_delivered_twice_runs_once(self, chat: Chat) -> None:
        agent = ReferenceAgent("Hello!")
        chat.host.add("aiagents.ragTest", agent)
        question = chat.say("Once?")
        chat.say("Once?", message_id=question)
        chat.answer(question)
        chat.answer(chat.say("Another one?"))
        assert [call.text for call in agent.calls] == ["Once?", "Another one?"]

    def test_a_picture_gets_a_sentence(self, chat: Chat) -> None:
        assert "only read text" in chat.answer(chat.say(None))

    def test_an_agent_that_fails_is_explained_without_its_inside(self, chat: Chat) -> None:
        chat.host.add("aiagents.ragTest", ReferenceAgent("", error=ValueError("inner secret")))
        answer = chat.answer(chat.say("Will it work?"))
        assert "went wrong" in answer and "inner secret" not in answer
        assert any(
            "inner secret" in (record.traceback or "") for record in chat.host.logged("error") + chat.host.records
        )

    def test_questions_of_one_person_are_answered_in_order(self, chat: Chat) -> None:
        agent = ReferenceAgent("Hello!")
        chat.host.add("aiagents.ragTest", agent)
        questions = [chat.say(f"Question {number}") for number in range(5)]
        for question in questions:
            chat.answer(question)
        assert [call.text for call in agent.calls] == [f"Question {number}" for number in range(5)]
        assert agent.max_running == 1

    def test_people_are_answered_side_by_side(self, chat: Chat) -> None:
        everybody = threading.Barrier(4)
        chat.host.add("aiagents.ragTest", ReferenceAgent("Hello!", before=lambda call: everybody.wait(10)))
        questions = [chat.say(f"With {name}?", sender=name) for name in ("Ann", "Bob", "Cem", "Dan")]
        assert [chat.answer(question) for question in questions] == ["Hello!"] * 4

    def test_loading_again_leaves_one_connection_and_the_same_object(self, chat: Chat) -> None:
        before = chat.host.get_element(chat.instance)
        chat.host.save(chat.instance, "config.json", chat.host.element(chat.instance).getFile("config.json"))
        assert chat.host.get_element(chat.instance) is before
        assert chat.answer(chat.say("Still there?")) == "Hello!"
        assert chat.connections() == 1

    def test_a_bad_configuration_is_explained_and_mended_by_the_next_save(self, chat: Chat) -> None:
        good = chat.host.element(chat.instance).getFile("config.json")
        bad = {key: value for key, value in self.config(chat).items() if key != "agent"}
        chat.host.save(chat.instance, "config.json", json.dumps(bad))
        manager = chat.host.get_element(chat.instance)
        assert manager.state == "failed" and isinstance(manager.error, ConfigError)
        assert chat.instance in str(manager.error) and "agent" in str(manager.error)
        chat.host.save(chat.instance, "config.json", good)
        assert chat.connections() == 1
        assert chat.answer(chat.say("Mended?")) == "Hello!"

    def test_deleting_the_instance_ends_its_connection(self, chat: Chat) -> None:
        manager = chat.host.get_element(chat.instance)
        chat.host.delete(chat.instance)
        assert manager.state == "stopped" and not manager.is_running()
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("imRobots-")]
        for thread in ours:
            thread.join(10)
        assert not [thread for thread in ours if thread.is_alive()]

    def test_stopping_lets_a_running_answer_finish(self, chat: Chat) -> None:
        asked, gate = threading.Event(), threading.Event()
        chat.host.add("aiagents.ragTest", ReferenceAgent("Hello!", gate=gate, before=lambda call: asked.set()))
        question = chat.say("Shall I wait?")
        assert asked.wait(10)
        stopping = threading.Thread(target=chat.host.get_element(chat.instance).stop)
        stopping.start()
        gate.set()
        stopping.join(10)
        assert not stopping.is_alive()
        assert chat.answer(question) == "Hello!"

    @staticmethod
    def config(chat: Chat) -> dict[str, Any]:
        """The instance's configuration, filled in."""
        text = chat.host.element(chat.instance).getFile("config.json")
        for name, value in chat.host.env_vars.items():
            text = text.replace("{{" + name + "}}", str(value))
        filled: dict[str, Any] = json.loads(text)
        return filled


@pytest.fixture
def chat() -> Chat:
    raise NotImplementedError("a Type's tests define this fixture")
