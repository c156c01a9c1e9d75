"""What a person may expect of a robot of any IM Type. A Type's tests inherit `IMTypeContract` and bring a `Chat`."""

from __future__ import annotations

import json
import threading
from typing import Any, Protocol

import pytest

from imRobots.Meta import ConfigError, Deadline
from tests.fakes.agents import ReferenceAgent
from tests.fakes.host import FakeHost


class Chat(Protocol):
    """One running instance of a Type, seen from the chat and from the host."""

    host: FakeHost
    instance: str
    """The fullName of the instance."""

    def say(self, text: str | None, sender: str = "Ann", message_id: str | None = None) -> str:
        """Send a message as a person (None: a picture); returns its id."""

    def answer(self, message_id: str) -> str:
        """Wait for the last word to a message; returns its text. Without cards that is the first text for it."""

    def shown(self, message_id: str) -> list[str]:
        """Every text that was shown for a message so far, in order."""

    def wait_shown(self, message_id: str, text: str) -> None:
        """Wait until this text is shown for a message. Not used where there are no cards."""

    def connections(self) -> int:
        """Connections of the robot to the platform, after those that are on their way are there."""

    def drop(self) -> None:
        """Break the connection."""

    def garble(self) -> None:
        """Let the platform send something that is no message."""


class IMTypeContract:
    """Inherit it and define a fixture `chat`, which boots the instance with `ReferenceAgent("Hello!")` as its agent."""

    has_cards = True
    """Whether the platform has messages that can be changed after they were sent."""

    def test_a_question_is_answered(self, chat: Chat) -> None:
        question = chat.say("How are you?")
        assert chat.answer(question) == "Hello!"
        shown = chat.shown(question)
        assert "Thinking" in shown[0] if self.has_cards else shown == ["Hello!"]

    def test_an_answer_grows(self, chat: Chat) -> None:
        gate = threading.Event()
        words = ["one ", "two ", "three ", "four ", "five ", "six"]

        class Slow:
            def run(self, params: Any, chatId: str, stream_callback: Any) -> str:
                for number, word in enumerate(words):
                    if number == 5:
                        assert gate.wait(10)
                    stream_callback({"data": {"content": word}})
                return "".join(words)

        chat.host.add("aiagents.ragTest", Slow())
        question = chat.say("How are you?")
        if self.has_cards:
            chat.wait_shown(question, "one two three four five ")
        gate.set()
        assert chat.answer(question) == "one two three four five six"
        if not self.has_cards:
            assert chat.shown(question) == ["one two three four five six"]

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

    def test_a_message_that_is_delivered_again_after_a_reload_runs_once(self, chat: Chat) -> None:
        agent = ReferenceAgent("Hello!")
        chat.host.add("aiagents.ragTest", agent)
        question = chat.say("Once?")
        chat.answer(question)
        chat.host.save(chat.instance, "config.json", chat.host.element(chat.instance).getFile("config.json"))
        assert chat.connections() == 1
        chat.say("Once?", message_id=question)
        chat.answer(chat.say("Another one?"))
        assert [call.text for call in agent.calls] == ["Once?", "Another one?"]

    def test_what_is_no_message_is_survived(self, chat: Chat) -> None:
        chat.answer(chat.say("Ready?"))
        chat.garble()
        assert chat.answer(chat.say("Still there?")) == "Hello!"

    def test_after_a_lost_connection_the_robot_is_back(self, chat: Chat) -> None:
        chat.answer(chat.say("Ready?"))
        chat.drop()
        assert chat.connections() == 1
        assert chat.answer(chat.say("Back?")) == "Hello!"

    def test_a_picture_gets_a_sentence(self, chat: Chat) -> None:
        assert "only read text" in chat.answer(chat.say(None))

    def test_an_agent_that_fails_is_explained_without_its_inside(self, chat: Chat) -> None:
        chat.host.add("aiagents.ragTest", ReferenceAgent("", error=ValueError("inner secret")))
        answer = chat.answer(chat.say("Will it work?"))
        assert "went wrong" in answer and "inner secret" not in answer
        assert any("inner secret" in record.traceback for record in chat.host.records), (
            "no traceback in the log; is the project's conftest.py loaded, which brings JitNode's log?"
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
        deadline = Deadline(10)
        for thread in ours:
            thread.join(deadline.left)
        assert not [thread.name for thread in ours if thread.is_alive()]

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
