"""config.json: filled in whatever the values are, and refused in words that help and tell no secret."""

from __future__ import annotations

import json
import re
import traceback
from typing import Any

import pytest
from pydantic import Field, ValidationError, model_validator

from imRobots.Meta import ConfigError
from imRobots.Meta.config import RobotConfig, load_config, read_config
from tests.fakes.host import FakeHost

from .conftest import MakeHost
from .helpers import ROBOT, the_element

SECRET = "s3cret-Xy7"
AGENT = "aiagents.hr"


class Loader:
    def renderTemplateString(self, source: str, **context: Any) -> str:
        """As in the tutorial."""
        return re.sub(r"\{\{(\w+)\}\}", lambda match: str(context.get(match.group(1), "")), source)


class ChatConfig(RobotConfig):
    """What a Type adds."""

    clientId: str
    clientSecret: str = Field(repr=False)


def read(source: Any, model: Any = RobotConfig, /, **env_vars: Any) -> tuple[dict[str, Any], Any]:
    text = source if isinstance(source, str) else json.dumps(source)
    return read_config(ROBOT, text, env_vars, Loader().renderTemplateString, model)


def refusal(source: Any, model: Any = RobotConfig, /, **env_vars: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(source, model, **env_vars)
    return str(caught.value)


# Filling in


def test_variables_are_filled_in() -> None:
    source = {"agent": "{{AGENT}}", "clientId": "{{ID}}", "clientSecret": "{{A}}-{{B}}!"}
    config, checked = read(source, ChatConfig, AGENT=AGENT, ID="ding1", A="x", B="y")
    assert config == {"agent": AGENT, "clientId": "ding1", "clientSecret": "x-y!"}
    assert (checked.agent, checked.clientId, checked.clientSecret) == (AGENT, "ding1", "x-y!")


@pytest.mark.parametrize(
    "value",
    [
        'say "hi"',
        "back\\slash \\n \\1 \\u0041",
        "two\nlines\r\n\tand a tab",
        "{{AGENT}} {{OTHER}} {{",
        "}} {x} ${x} %s",
        "密钥 \u2028 😄",
        '", "agent": "aiagents.evil',
    ],
    ids=ascii,
)
def test_a_value_arrives_as_it_is(value: str) -> None:
    source = {"agent": "{{AGENT}}", "extra": "{{VALUE}}", "deep": {"list": ["{{VALUE}}", 1, None]}}
    config, checked = read(source, AGENT=AGENT, VALUE=value, OTHER="wrong")
    assert config == {"agent": AGENT, "extra": value, "deep": {"list": [value, 1, None]}}
    assert checked.agent == AGENT


def test_variables_in_keys_are_filled_in_at_every_depth() -> None:
    source = {"{{KEY}}": AGENT, "my{{NAME}}": {"{{NAME}}": "{{NAME}}"}}
    config, checked = read(source, KEY="agent", NAME="Own")
    assert config == {"agent": AGENT, "myOwn": {"Own": "Own"}}
    assert checked.agent == AGENT


def test_what_is_wrong_with_a_key_from_a_variable_is_said_of_its_name() -> None:
    assert "maxQueue: " in refusal({"agent": AGENT, "{{KEY}}": -1}, KEY="maxQueue")
    assert "maxQueue: the environment variable NOWHERE is not set" in refusal(
        {"agent": AGENT, "{{KEY}}": "{{NOWHERE}}"}, KEY="maxQueue"
    )


def test_a_variable_outside_of_quotes_may_be_a_number_or_any_json() -> None:
    source = '{"agent": {{AGENT}}, "maxQueue": {{QUEUE}}, "extra": [{{ON}}, {"deep": {{LIST}}}], "text": "{{QUEUE}}"}'
    config, checked = read(source, AGENT=f'"{AGENT}"', QUEUE=8, ON="true", LIST='[1, "{{QUEUE}}"]')
    assert config["agent"] == AGENT
    assert config["maxQueue"] == checked.maxQueue == 8
    assert config["extra"] == [True, {"deep": [1, "{{QUEUE}}"]}]
    assert config["text"] == "8"


@pytest.mark.parametrize("source", ["{ {{PAIRS}} }", '{"language": "zh-CN", {{PAIRS}}}', "{{ALL}}"])
def test_a_variable_may_hold_more_than_one_value(source: str) -> None:
    pairs = f'"agent": "{AGENT}", "maxQueue": 8'
    _, checked = read(source, PAIRS=pairs, ALL=f"{{{pairs}}}")
    assert (checked.agent, checked.maxQueue) == (AGENT, 8)


def test_something_in_quotes_that_looks_like_the_end_of_a_string_is_none() -> None:
    config, _ = read(r'{"agent": "{{AGENT}}", "extra": "a \"{{X}}\" b \\", "n": {{N}}}', AGENT=AGENT, X='"x', N=1)
    assert config["extra"] == 'a ""x" b \\'
    assert config["n"] == 1


def test_what_is_not_a_variable_is_left_alone() -> None:
    config, _ = read({"agent": AGENT, "extra": "{NAME} {{ NAME }} {{NA-ME}}"}, NAME="wrong")
    assert config["extra"] == "{NAME} {{ NAME }} {{NA-ME}}"


def test_a_file_from_windows_notepad_can_be_read() -> None:
    config, _ = read('\ufeff{\r\n  "agent": "aiagents.hr"\r\n}\r\n')
    assert config == {"agent": AGENT}


@pytest.mark.parametrize("name", ["self", "source"])
def test_variables_named_like_parameters_of_the_loader_disturb_nobody(name: str) -> None:
    config, _ = read({"agent": "{{AGENT}}"}, AGENT=AGENT, **{name: "x"})
    assert config == {"agent": AGENT}
    assert f"{name} is not set" in refusal({"agent": f"{{{{{name}}}}}"}, **{name: "x"})


# Checking


def test_only_the_agent_has_to_be_given() -> None:
    config, checked = read({"agent": AGENT})
    assert config == {"agent": AGENT}
    assert (checked.agentCall, checked.language, checked.maxConcurrency, checked.maxQueue) == ("auto", "auto", 32, 1000)
    assert (checked.agentTimeout, checked.resumeWithin, checked.apiQps, checked.monthlyApiBudget) == (
        300,
        600,
        20,
        None,
    )


def test_what_is_given_is_used() -> None:
    given = {"agent": AGENT, "agentCall": "documented", "language": "zh-CN", "maxConcurrency": 1000, "maxQueue": 0}
    given |= {"agentTimeout": 0.5, "resumeWithin": 0, "apiQps": 0, "monthlyApiBudget": 1}
    _, checked = read(given)
    assert {key: getattr(checked, key) for key in given} == given


def test_no_budget_may_be_said_too() -> None:
    _, checked = read({"agent": AGENT, "monthlyApiBudget": None})
    assert checked.monthlyApiBudget is None


NUMBERS = [
    *("maxConcurrency", "maxQueue", "agentTimeout", "resumeWithin", "apiQps", "monthlyApiBudget", "feedbackDays"),
]


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_may_come_from_a_variable(key: str) -> None:
    for source in ({"agent": AGENT, key: "{{N}}"}, f'{{"agent": "{AGENT}", "{key}": {{{{N}}}}}}'):
        _, checked = read(source, N="7")
        assert getattr(checked, key) == 7


@pytest.mark.parametrize("key", [*NUMBERS, "agent", "language", "agentCall"])
@pytest.mark.parametrize("value", ["true", "false"])
def test_true_and_false_are_no_values(key: str, value: str) -> None:
    for source in ({"agent": AGENT, key: json.loads(value)}, f'{{"agent": "{AGENT}", "{key}": {{{{ON}}}}}}'):
        assert f"{key}: must not be true or false" in refusal(source, ON=value)


@pytest.mark.parametrize("key", ["quoteContext", "showReasoning", "showTools", "feedbackButtons"])
@pytest.mark.parametrize("value", [True, False])
def test_a_switch_is_true_or_false(key: str, value: bool) -> None:
    for source in ({"agent": AGENT, key: value}, f'{{"agent": "{AGENT}", "{key}": {{{{ON}}}}}}'):
        _, checked = read(source, ON=str(value).lower())
        assert getattr(checked, key) is value


def test_without_a_list_everybody_is_allowed_everywhere_and_with_one_only_who_is_on_it() -> None:
    _, checked = read({"agent": AGENT})
    assert checked.allows("ada", "c1")
    _, checked = read({"agent": AGENT, "allowUsers": ["ada"], "allowConversations": ["c1", "{{ROOM}}"]}, ROOM="c2")
    assert checked.allows("ada", "c1") and checked.allows("ada", "c2")
    assert not checked.allows("bob", "c1") and not checked.allows("ada", "c3")


class SwitchConfig(RobotConfig):
    """A Type with a switch."""

    loud: bool = False


@pytest.mark.parametrize("value", [True, False])
def test_a_type_may_have_a_switch(value: bool) -> None:
    for source in ({"agent": AGENT, "loud": value}, f'{{"agent": "{AGENT}", "loud": {{{{ON}}}}}}'):
        _, checked = read(source, SwitchConfig, ON=str(value).lower())
        assert checked.loud is value
    assert "maxQueue: must not be true or false" in refusal({"agent": AGENT, "maxQueue": value}, SwitchConfig)


def test_an_unknown_key_may_be_true() -> None:
    _, checked = read({"agent": AGENT, "debug": True})
    assert checked.model_extra == {"debug": True}


def test_a_configuration_that_is_logged_shows_no_secret() -> None:
    source = {"agent": AGENT, "clientId": "ding1", "clientSecret": SECRET, "clientSecrt": SECRET, "x": {"y": SECRET}}
    config, checked = read(source, ChatConfig)
    assert config["clientSecrt"] == SECRET
    for shown in (repr(checked), str(checked), f"{checked}", repr([checked])):
        assert SECRET not in shown
        assert "clientSecrt" not in shown
        for known in (AGENT, "ding1", "agentTimeout"):
            assert known in shown


def test_a_number_may_come_as_text_from_a_variable() -> None:
    _, checked = read({"agent": AGENT, "maxConcurrency": "{{N}}"}, N="4")
    assert checked.maxConcurrency == 4


def test_unknown_keys_are_kept() -> None:
    config, checked = read({"agent": AGENT, "greeting": "{{HI}}", "deep": {"x": [1]}}, HI="Hi!")
    assert config == {"agent": AGENT, "greeting": "Hi!", "deep": {"x": [1]}}
    assert checked.model_extra == {"greeting": "Hi!", "deep": {"x": [1]}}


# (config.json, key, what else the error names)
WRONG = {
    "missing key": ({"language": "auto"}, "agent", ["missing", "add it"]),
    "variable not set": ({"agent": "{{NOWHERE}}"}, "agent", ["NOWHERE is not set", "set it under Settings"]),
    "two variables not set": (
        {"agent": "{{NOWHERE}}{{NOR_HERE}}"},
        "agent",
        ["the environment variable NOWHERE and NOR_HERE is not set"],
    ),
    "variable not set in an unknown key": ({"agent": AGENT, "x": ["{{NOWHERE}}"]}, "x", ["NOWHERE is not set"]),
    "bare variable not set": ('{"agent": "a", "maxQueue": {{NOWHERE}}}', "maxQueue", ["NOWHERE is not set"]),
    "empty": ({"agent": ""}, "agent", ["is empty", "set it"]),
    "blank": ({"agent": " \n"}, "agent", ["is empty", "set it"]),
    "empty variable": ({"agent": "{{EMPTY}}"}, "agent", ["is empty", "variable EMPTY", "set it"]),
    "placeholder": ({"agent": "<agent>"}, "agent", ["placeholder", "set it"]),
    "placeholder of a Type": ({"agent": AGENT, "clientId": " <clientId> "}, "clientId", ["placeholder", "set it"]),
    "placeholder in a variable": ({"agent": "{{PLACE}}"}, "agent", ["placeholder", "variable PLACE", "set it"]),
    "number for text": ({"agent": 5}, "agent", ["string", "set it"]),
    "nothing for text": ({"agent": None}, "agent", ["string", "set it"]),
    "list for text": ({"agent": ["a"]}, "agent", ["string", "set it"]),
    "text for a number": ({"agent": AGENT, "maxQueue": "many"}, "maxQueue", ["integer", "set it"]),
    "variable is no number": ({"agent": AGENT, "maxQueue": "{{SECRET}}"}, "maxQueue", ["integer", "variable SECRET"]),
    "long text for a number": ({"agent": AGENT, "maxQueue": "9" * 5000}, "maxQueue", ["integer", "set it"]),
    "number of 5000 digits": ('{"agent": "a", "maxQueue": %s}' % ("9" * 5000), "config.json", ["not valid JSON"]),
    "variable of 5000 digits": ('{"agent": "a", "maxQueue": {{LONG}}}', "maxQueue", ["variable LONG", "correct it"]),
    "deep lists": ('{"agent": "a", "x": %s}' % ("[" * 100_000 + "]" * 100_000), "config.json", ["not valid JSON"]),
    "deep objects": ('{"x": ' * 100_000 + "1" + "}" * 100_000, "config.json", ["not valid JSON"]),
    "no such choice": ({"agent": AGENT, "language": "fr"}, "language", ["'en-US'", "'zh-CN'", "set it"]),
    "no such call": ({"agent": AGENT, "agentCall": "new"}, "agentCall", ["'documented'", "'reference'", "set it"]),
    "no agents": ({"agent": AGENT, "maxConcurrency": 0}, "maxConcurrency", ["greater", "set it"]),
    "too many agents": ({"agent": AGENT, "maxConcurrency": 1001}, "maxConcurrency", ["less", "set it"]),
    "negative queue": ({"agent": AGENT, "maxQueue": -1}, "maxQueue", ["greater", "set it"]),
    "endless queue": ({"agent": AGENT, "maxQueue": 100_001}, "maxQueue", ["less", "set it"]),
    "no time": ({"agent": AGENT, "agentTimeout": 0}, "agentTimeout", ["greater", "set it"]),
    "endless time": ({"agent": AGENT, "agentTimeout": 86_401}, "agentTimeout", ["less", "set it"]),
    "infinite time": ('{"agent": "a", "agentTimeout": Infinity}', "agentTimeout", ["set it"]),
    "time that is none": ('{"agent": "a", "agentTimeout": NaN}', "agentTimeout", ["set it"]),
    "before it began": ({"agent": AGENT, "resumeWithin": -1}, "resumeWithin", ["greater", "set it"]),
    "after days": ({"agent": AGENT, "resumeWithin": 86_401}, "resumeWithin", ["less", "set it"]),
    "no time to resume": ('{"agent": "a", "resumeWithin": NaN}', "resumeWithin", ["set it"]),
    "negative pace": ({"agent": AGENT, "apiQps": -1}, "apiQps", ["greater", "set it"]),
    "half a call": ({"agent": AGENT, "apiQps": 0.5}, "apiQps", ["integer", "set it"]),
    "endless pace": ({"agent": AGENT, "apiQps": 10_001}, "apiQps", ["less", "set it"]),
    "no pace": ({"agent": AGENT, "apiQps": None}, "apiQps", ["integer", "set it"]),
    "no budget": ({"agent": AGENT, "monthlyApiBudget": 0}, "monthlyApiBudget", ["greater", "set it"]),
    "nobody": ({"agent": AGENT, "allowUsers": []}, "allowUsers", ["at least 1", "set it"]),
    "no list": ({"agent": AGENT, "allowUsers": "ada"}, "allowUsers", ["list", "set it"]),
    "somebody without a name": ({"agent": AGENT, "allowUsers": ["ada", " "]}, "allowUsers", ["is empty", "set it"]),
    "placeholder in a list": (
        {"agent": AGENT, "allowConversations": ["<id>"]},
        "allowConversations",
        ["placeholder", "set it"],
    ),
    "no such scope": ({"agent": AGENT, "sessionScope": "all"}, "sessionScope", ["'userInConversation'", "set it"]),
    "ratings for no time": ({"agent": AGENT, "feedbackDays": 0}, "feedbackDays", ["greater", "set it"]),
    "ratings for ever": ({"agent": AGENT, "feedbackDays": 3651}, "feedbackDays", ["less", "set it"]),
    "no model": ({"agent": AGENT, "feedbackModel": " "}, "feedbackModel", ["is empty", "set it"]),
    "bare variable is no JSON": ('{"agent": {{SECRET}}}', "agent", ["variable SECRET", "JSON", "correct it"]),
    "comma missing": ('{"agent": "a"\n "x": 1}', "config.json", ["not valid JSON", "line 2", "correct the file"]),
    "no file content": ("", "config.json", ["not valid JSON", "correct the file"]),
    "list": ("[1]", "config.json", ["JSON object", "correct the file"]),
    "text": ('"{{SECRET}}"', "config.json", ["JSON object", "correct the file"]),
    "no JSON and a variable": ("{{{NOWHERE}}", "config.json", ["NOWHERE is not set", "set it under Settings"]),
    "no JSON because of a variable": ("{ {{SECRET}} }", "config.json", ["not valid JSON", "correct the file"]),
}


@pytest.mark.parametrize(("source", "key", "named"), WRONG.values(), ids=WRONG)
def test_an_error_says_where_and_what_to_do(source: Any, key: str, named: list[str]) -> None:
    model = ChatConfig if key == "clientId" else RobotConfig
    text = refusal(source, model, EMPTY="", PLACE="<agent>", LONG="9" * 5000, SECRET=SECRET)
    for part in [ROBOT, f"{key}: ", *named]:
        assert part in text
    assert "save the element or restart the app" in text
    assert "\n" not in text


@pytest.mark.parametrize(("source", "key", "named"), WRONG.values(), ids=WRONG)
def test_an_error_never_shows_a_value(source: Any, key: str, named: list[str]) -> None:
    text = source if isinstance(source, str) else json.dumps(source)
    text = text.replace("{", '{"clientSecret": "{{SECRET}}", ', 1) if text.startswith('{"') else text
    with pytest.raises(ConfigError) as caught:
        read(text, ChatConfig, EMPTY="", PLACE="<agent>", LONG="9" * 5000, SECRET=SECRET)
    assert SECRET not in "".join(traceback.format_exception(caught.value)), "this is what log.exception would show"


def test_what_a_type_checks_by_itself_never_shows_a_value_either() -> None:
    with pytest.raises(ValidationError) as caught:
        RobotConfig.model_validate({"agent": [SECRET], "language": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("secret", ["", " ", "<clientSecret>"], ids=["empty", "blank", "placeholder"])
def test_the_keys_of_a_type_are_checked_in_the_same_way(secret: str) -> None:
    text = refusal({"agent": AGENT, "clientId": "ding1", "clientSecret": "{{SECRET}}"}, ChatConfig, SECRET=secret)
    assert "clientSecret: " in text
    assert "variable SECRET" in text


class EitherOr(RobotConfig):
    """A Type that checks one key against another."""

    clientId: str = ""
    robotCode: str = ""

    @model_validator(mode="after")
    def _has_one(self) -> EitherOr:
        if not self.clientId + self.robotCode:
            raise ValueError("needs clientId or robotCode")
        return self


def test_what_a_type_checks_across_keys_is_an_error_of_configuration() -> None:
    text = refusal({"agent": "{{AGENT}}"}, EitherOr, AGENT=AGENT)
    assert text.startswith(f"{ROBOT}: ")
    assert "config.json: needs clientId or robotCode; set it" in text
    _, checked = read({"agent": AGENT, "robotCode": "r1"}, EitherOr)
    assert checked.robotCode == "r1"


def test_all_that_is_wrong_is_said_at_once_and_each_key_once() -> None:
    source = {"agent": "{{NOWHERE}}", "language": "fr", "maxQueue": -1, "clientId": "{{ID}}"}
    text = refusal(source, ChatConfig, ID="")
    for key in ("agent", "language", "maxQueue", "clientId", "clientSecret"):
        assert len(re.findall(rf"\b{key}: ", text)) == 1


# Reading the file of an element


@pytest.fixture
def host(make_host: MakeHost) -> FakeHost:
    return make_host(env_vars={"AGENT": AGENT})


def load(host: FakeHost, source: str) -> tuple[dict[str, Any], Any]:
    host.write(ROBOT, "config.json", source)
    with host.context():
        return load_config(the_element(host), Loader().renderTemplateString, RobotConfig)


def test_the_elements_file_is_filled_in_with_the_apps_variables(host: FakeHost) -> None:
    config, checked = load(host, '{"agent": "{{AGENT}}", "maxQueue": 3}')
    assert config == {"agent": AGENT, "maxQueue": 3}
    assert (checked.agent, checked.maxQueue) == (AGENT, 3)
    assert host.records == []


def test_an_unknown_key_is_warned_about_once(host: FakeHost) -> None:
    for _ in range(3):
        config, _ = load(host, '{"agent": "{{AGENT}}", "maxQueu": 3, "Agent": "x"}')
        assert config["maxQueu"] == 3
    (first, second) = host.logged("warning")
    for warning, key in ((first, "Agent"), (second, "maxQueu")):
        assert ROBOT in warning.message
        assert f"unknown key {key}" in warning.message
    assert len(host.records) == 2


def test_another_instance_is_warned_about_its_own_unknown_key(host: FakeHost) -> None:
    load(host, '{"agent": "{{AGENT}}", "maxQueu": 3}')
    the_element(host).fullName = "robots.sales"
    load(host, '{"agent": "{{AGENT}}", "maxQueu": 3}')
    assert [record.message.split(":")[0] for record in host.logged("warning")] == [ROBOT, "robots.sales"]


def test_a_file_that_is_not_there_is_an_error_of_configuration(host: FakeHost) -> None:
    with pytest.raises(ConfigError, match=rf"^{ROBOT}: .*config\.json cannot be read"), host.context():
        load_config(the_element(host), Loader().renderTemplateString, RobotConfig)


def test_a_wrong_file_is_an_error_of_configuration(host: FakeHost) -> None:
    host.env_vars.clear()
    with pytest.raises(ConfigError, match="AGENT is not set"):
        load(host, '{"agent": "{{AGENT}}"}')


@pytest.mark.parametrize("depth", [600, 5000, 100_000])
@pytest.mark.parametrize("source", ['{"agent": "a", "x": %s}', '{"agent": "{{AGENT}}", "x": {{DEEP}}}'])
def test_what_is_nested_too_deep_is_read_or_is_an_error_of_configuration(
    host: FakeHost, source: str, depth: int
) -> None:
    deep = "[" * depth + "]" * depth
    host.env_vars["DEEP"] = deep
    try:
        config, _ = load(host, source.replace("%s", deep))
    except ConfigError as error:
        assert ROBOT in str(error)
    else:
        assert str(config["agent"]) in ("a", AGENT)
        assert isinstance(config["x"], list)


def test_a_key_that_is_no_json_is_an_error_of_configuration(host: FakeHost) -> None:
    with pytest.raises(ConfigError, match=ROBOT):
        load(host, '{ {{AGENT}}: 1, "agent": "a"}')


def test_whatever_the_hosts_template_raises_is_an_error_of_configuration(host: FakeHost) -> None:
    class Broken:
        def renderTemplateString(self, source: str, **context: Any) -> str:
            raise KeyError("no templates today")

    host.write(ROBOT, "config.json", '{"agent": "{{AGENT}}"}')
    with pytest.raises(ConfigError, match=f"^{ROBOT}: .*KeyError"), host.context():
        load_config(the_element(host), Broken().renderTemplateString, RobotConfig)


def test_a_file_may_come_as_bytes(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '\ufeff{"agent": "{{AGENT}}", "greeting": "您好"}'
    monkeypatch.setattr(the_element(host), "getFile", lambda name: source.encode())
    with host.context():
        config, _ = load_config(the_element(host), Loader().renderTemplateString, RobotConfig)
    assert config == {"agent": AGENT, "greeting": "您好"}


def test_where_the_app_has_no_variables_only_the_missing_one_is_named(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "env_vars", None)
    assert load(host, '{"agent": "a"}')[0] == {"agent": "a"}
    with pytest.raises(ConfigError, match="AGENT is not set"):
        load(host, '{"agent": "{{AGENT}}"}')


@pytest.mark.parametrize("variable", ["{{ AGENT }}", "{{MY-AGENT}}", "{{}}"])
def test_a_variable_that_is_written_in_another_way_is_pointed_out(variable: str) -> None:
    text = refusal({"agent": variable}, AGENT="aiagents.faq")
    assert "agent: write a variable as {{NAME}}" in text
    assert read({"agent": "a", "greeting": "Hello {{ name }}"})[0]["greeting"] == "Hello {{ name }}"


def test_a_variable_without_a_value_is_not_set() -> None:
    assert "variable AGENT is not set" in refusal({"agent": "{{AGENT}}"}, AGENT=None)
