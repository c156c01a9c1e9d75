"""An instance's config.json: filled in from environment variables, checked, explained when it is wrong.

Owns `RobotConfig` (the keys that every Type has) and how the file is read. Knows no platform. Any thread. The only
file of the family that needs pydantic: a Type imports it inside `load()`, so that a missing package is an error in the
log and not the end of the app.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from .host import env_vars, warn_once
from .models import ConfigError

# A string of JSON, or a variable that stands outside of any string: `{"port": {{PORT}}}`.
_STRING_OR_BARE_VARIABLE = re.compile(r'"(?:[^"\\]|\\.)*"|\{\{\w+\}\}')
_VARIABLE = re.compile(r"\{\{(\w+)\}\}")
_NO_VARIABLE = re.compile(r"\{\{[^{}]*\}\}")
# A bare variable becomes a string with this mark, so that the file can be parsed before it is filled in.
_BARE = "\0bare "
_PLACEHOLDER = re.compile(r"\s*<[^<>]*>\s*")


class RobotConfig(BaseModel):
    """The keys that every Type of the family understands. Camel case, because they are read and written by people.

    `agent`: fullName of the agent that answers. `agentCall`: how to call an agent whose signature cannot be read.
    `language`: of the sentences that are not the agent's. `maxConcurrency`: agents running at a time. `maxQueue`:
    questions that may wait for one. `agentTimeout`: seconds that one may run. `resumeWithin`: seconds after which a
    question that a killed process left is not asked again. `apiQps`: calls of each of the platform's APIs in a second,
    0 for no limit. `monthlyApiBudget`: calls in a month.

    `sessionScope`: who shares a context with the agent. `allowUsers` and `allowConversations`: who may use the robot,
    and where, by the platform's ids. `quoteContext`: whether the agent is told what a message answers to.
    `showReasoning` and `showTools`: whether people see them while the agent works. `feedbackButtons`: whether cards
    have buttons to rate them. `feedbackDays`: days that ratings are kept. `feedbackModel`: fullName of the app's data
    model that gets a row for each.
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True)

    agent: str
    agentCall: Literal["auto", "documented", "reference"] = "auto"
    language: Literal["auto", "en-US", "zh-CN"] = "auto"
    maxConcurrency: int = Field(default=32, ge=1, le=1000)
    maxQueue: int = Field(default=1000, ge=0, le=100_000)
    agentTimeout: float = Field(default=300.0, gt=0, le=86_400)
    resumeWithin: float = Field(default=600.0, ge=0, le=86_400)
    apiQps: int = Field(default=20, ge=0, le=10_000)
    monthlyApiBudget: int | None = Field(default=None, ge=1)
    sessionScope: Literal["user", "conversation", "userInConversation"] = "user"
    allowUsers: list[str] | None = Field(default=None, min_length=1)
    allowConversations: list[str] | None = Field(default=None, min_length=1)
    quoteContext: bool = True
    showReasoning: bool = False
    showTools: bool = False
    feedbackButtons: bool = True
    feedbackDays: float = Field(default=180.0, gt=0, le=3650)
    feedbackModel: str | None = None

    def allows(self, person: str, conversation_id: str) -> bool:
        """Whether this person may use the robot there. Without a list, everybody may, and everywhere."""
        return (self.allowUsers is None or person in self.allowUsers) and (
            self.allowConversations is None or conversation_id in self.allowConversations
        )

    def __repr_args__(self) -> Any:
        """Without the keys that nobody knows: one of them may be a misspelt secret."""
        return [(name, value) for name, value in super().__repr_args__() if name in type(self).model_fields]

    @field_validator("*", mode="before")
    @classmethod
    def _is_a_switch_where_it_may_be(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field and field.annotation is not bool:  # Python would take it for a number
            raise ValueError("must not be true or false")
        return value

    @field_validator("*")
    @classmethod
    def _is_filled_in(cls, value: object) -> object:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.strip():
                raise ValueError("is empty")
            if isinstance(text, str) and _PLACEHOLDER.fullmatch(text):
                raise ValueError("still holds the placeholder of the template")
        return value


Config = TypeVar("Config", bound=RobotConfig)


def load_config(element: Any, render: Callable[..., str], model: type[Config]) -> tuple[dict[str, Any], Config]:
    """Read the config.json of an element; returns it as a dict with every key it has, and as `model`.

    `render` is the Loader's `renderTemplateString`. Called where JitNode calls us. Raises `ConfigError`.
    """
    try:
        source = element.getFile("config.json")
        text = source.decode("utf-8") if isinstance(source, bytes) else str(source or "")
        config, checked = read_config(element.fullName, text, env_vars(), render, model)
    except ConfigError:
        raise
    except Exception as error:  # which errors JitNode raises is not documented, and `render` may be anybody's
        raise ConfigError(
            f"{element.fullName}: config.json cannot be read ({type(error).__name__}); see that the element has it"
        ) from error
    for key in sorted(checked.model_extra or {}):
        warn_once(f"{element.fullName}: config.json has the unknown key {key}; it is kept, and nothing reads it")
    return config, checked


def read_config(
    name: str, source: str, env_vars: dict[str, Any], render: Callable[..., str], model: type[Config]
) -> tuple[dict[str, Any], Config]:
    """Fill in and check the text of a config.json.

    `name` is the element's fullName, for the errors. `render` is given one string of the file at a time, so a value
    with quotes, backslashes, newlines or `{{` arrives as it is.
    Raises `ConfigError` with everything that is wrong, but without any value.
    """
    # `self` and `source` are parameters of the reference's renderTemplateString, so no variable can have these names.
    context = {key: value for key, value in env_vars.items() if key not in ("self", "source") and value is not None}
    source = source.removeprefix("\ufeff")  # Windows Notepad begins a UTF-8 file with it
    problems: dict[str, str] = {}
    config: Any = {}
    try:
        template = json.loads(_STRING_OR_BARE_VARIABLE.sub(_mark_bare_variable, source))
    except (ValueError, RecursionError):
        template = None
    if isinstance(template, dict):
        for name_of_key, value in template.items():
            key, variables = name_of_key.removeprefix(_BARE), []
            try:
                variables = _variables([name_of_key, value])
                key = str(_fill(name_of_key, lambda text: render(text, **context)))
                if unset := [variable for variable in variables if variable not in context]:
                    problems[key] = _not_set(unset)
                if key in model.model_fields and _NO_VARIABLE.search(_VARIABLE.sub("", _text(value))):
                    problems.setdefault(key, "write a variable as {{NAME}}: letters, digits and _ only, no blanks")
                config[key] = _fill(value, lambda text: render(text, **context))
            except (ValueError, RecursionError):
                what = f"{_named(variables)} does not hold a JSON value" if variables else "nested too deeply"
                problems.setdefault(key, f"{what}; correct it")
    else:  # perhaps a variable holds more than one value, and only the filled-in text is JSON
        template = {}
        if unset := [variable for variable in _variables(source) if variable not in context]:
            problems["config.json"] = _not_set(unset)
        try:
            config = json.loads(render(source, **context))
        except (ValueError, RecursionError) as error:
            where = f" ({error.msg}, line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            problems.setdefault("config.json", f"not valid JSON{where}; correct the file")
        if not problems and not isinstance(config, dict):
            problems["config.json"] = "must be a JSON object with keys and values; correct the file"

    if "config.json" not in problems:
        try:
            checked = model.model_validate(config)
        except ValidationError as error:
            for item in error.errors(include_url=False, include_input=False, include_context=False):
                key = ".".join(map(str, item["loc"])) or "config.json"
                variables = list(_variables(template.get(key.partition(".")[0])))
                problems.setdefault(key, _explain(item["msg"], item["type"], variables))
    if problems:
        listed = "; ".join(f"{key}: {problem}" for key, problem in problems.items())
        raise ConfigError(f"{name}: config.json cannot be used. {listed}. Then save the element or restart the app.")
    return config, checked


def _mark_bare_variable(match: re.Match[str]) -> str:
    token = match.group()
    return token if token.startswith('"') else json.dumps(_BARE + token)


def _fill(template: Any, render: Callable[[str], str]) -> Any:
    if isinstance(template, dict):
        return {str(_fill(key, render)): _fill(value, render) for key, value in template.items()}
    if isinstance(template, list):
        return [_fill(item, render) for item in template]
    if isinstance(template, str) and template.startswith(_BARE):
        return json.loads(render(template.removeprefix(_BARE)))
    return render(template) if isinstance(template, str) else template


def _variables(template: Any) -> list[str]:
    return _VARIABLE.findall(_text(template))


def _text(template: Any) -> str:
    return template if isinstance(template, str) else json.dumps(template, ensure_ascii=False)


def _named(variables: list[str]) -> str:
    return f"the environment variable {' and '.join(variables)}"


def _not_set(variables: list[str]) -> str:
    return f"{_named(variables)} is not set; set it under Settings > Environment Variables"


def _explain(message: str, kind: str, variables: list[str]) -> str:
    if kind == "missing":
        return "the key is missing; add it"
    if kind == "extra_forbidden":
        return "there is no such key; take it out"
    if kind == "model_type":
        return "must be an object with keys and values; correct it"
    origin = f" (it comes from {_named(variables)})" if variables else ""
    return f"{message.removeprefix('Value error, ')}{origin}; set it"
