"""Every sentence that a person in the chat can read, in English and in Chinese.

Owns the words and the choice of the language; where they are shown is the Type's business. Pure, any thread.
The card's strings are those of the JitAi tutorial in both languages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .commands import read_command

if TYPE_CHECKING:
    from .models import IncomingMessage

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")


@dataclass(frozen=True)
class Texts:
    """The sentences in one language."""

    thinking: str
    place: str
    very_helpful: str
    helpful: str
    somewhat_helpful: str
    not_helpful: str
    regenerate: str
    keep_asking: str
    stop: str
    thanks: str
    go_on: str
    using_tool: str
    needs_confirmation: str
    failed: str
    interrupted: str
    stopped: str
    timed_out: str
    busy: str
    one_at_a_time: str
    unsupported: str
    empty: str
    quota: str
    not_allowed: str
    only_the_asker: str
    forgotten: str
    asked_again: str
    nothing_to_rate: str
    nothing_to_stop: str
    new_session: str
    help: str
    status: str


ENGLISH = Texts(
    thinking="[Thinking] Analyzing your question, please wait...",
    place="Your question is number {place} in the queue, please wait...",
    very_helpful="😄 Very Helpful",
    helpful="😊 Helpful",
    somewhat_helpful="🙂 Somewhat Helpful",
    not_helpful="😅 Not Helpful",
    regenerate="🔄 Regenerate",
    keep_asking="[Question] Keep Asking",
    stop="⏹ Stop",
    thanks="Thank you for your feedback!",
    go_on="Please go on with your question, and I will go on answering.",
    using_tool="🔧 Using a tool ...",
    needs_confirmation="This needs a confirmation, please go on in the app.",
    failed="Sorry, something went wrong while answering. Please ask again in a moment.",
    interrupted="Sorry, this answer was interrupted. Please ask again.",
    stopped="(Stopped.)",
    timed_out="Sorry, this took too long, so I stopped waiting. Please ask again, perhaps for less at once.",
    busy="Many people are asking right now. Please try again in a few minutes.",
    one_at_a_time="I am still working on your earlier questions. One at a time, please.",
    unsupported="Sorry, I can only read text so far. Please write your question to me.",
    empty="I found no text in your message. Please write your question to me.",
    quota="I cannot read new messages at the moment: the organization's message quota is used up. "
    "Please tell your administrator.",
    not_allowed="Sorry, I am not open to you here. Please ask whoever runs this robot for access.",
    only_the_asker="Only the person who asked can do this.",
    forgotten="I do not have this question any more. Please ask it again.",
    asked_again="This was asked again already. Look for the newer answer, it has a button of its own.",
    nothing_to_rate="There is no answer here yet that you could rate.",
    nothing_to_stop="There is nothing to stop: I am not working on a question of yours here.",
    new_session="A fresh start: I no longer refer to what was said before.",
    help="Just ask me. And these commands help:\n"
    "/new: start afresh, without what was said before\n"
    "/stop: stop the answer that I am working on\n"
    "/good and /bad: rate my last answer\n"
    "/help: this list",
    status="{state} since {since}. Answered {answered}, failed {failed}, at work {in_flight}, waiting {queued}, "
    "given up on {abandoned}. This month {calls} calls and {pushes} messages. First sign of life {first_card} ms, "
    "answer {answer} ms (median). Not available: {closed}.",
)

CHINESE = Texts(
    thinking="[思考]正在分析您的问题，请稍候...",
    place="您的问题正在排队，当前第 {place} 位，请稍候...",
    very_helpful="😄 非常有帮助",
    helpful="😊 有帮助",
    somewhat_helpful="🙂 帮助不大",
    not_helpful="😅 没帮助",
    regenerate="🔄 重新生成",
    keep_asking="[疑问] 继续追问",
    stop="⏹ 停止",
    thanks="感谢您的反馈！",
    go_on="请继续输入您的问题，我会继续为您解答。",
    using_tool="🔧 正在使用工具……",
    needs_confirmation="这一步需要确认，请到应用中继续。",
    failed="抱歉，回答时出了点问题，请稍后再问一次。",
    interrupted="抱歉，这次回答被中断了，请再问一次。",
    stopped="（已停止）",
    timed_out="抱歉，这次处理时间过长，我已停止等待。请再问一次，或者把问题拆小一些。",
    busy="现在提问的人比较多，请过几分钟再试。",
    one_at_a_time="您之前的问题还在处理中，请稍等，一个一个来。",
    unsupported="抱歉，我目前只能看懂文字，请用文字告诉我您的问题。",
    empty="这条消息里没有文字，请用文字告诉我您的问题。",
    quota="本月的机器人消息额度已用完，暂时收不到新消息，请联系管理员。",
    not_allowed="抱歉，您在这里还不能使用我，请联系机器人的管理员开通。",
    only_the_asker="只有提问的人才能这样操作。",
    forgotten="这个问题我已经没有记录了，请重新提问。",
    asked_again="这个问题已经重新回答过了，请看后面的新回答，那里也有这个按钮。",
    nothing_to_rate="这里还没有可以评价的回答。",
    nothing_to_stop="没有正在处理的问题，不需要停止。",
    new_session="已开始新会话，之前聊过的内容不再参考。",
    help="直接向我提问就可以。您还可以使用这些命令：\n"
    "/新会话：开始新会话，不再参考之前的内容\n"
    "/停止：停止正在生成的回答\n"
    "/有帮助、/没帮助：评价我上一次的回答\n"
    "/帮助：显示这些命令",
    status="状态 {state}（自 {since}）。已回答 {answered}，失败 {failed}，处理中 {in_flight}，排队 {queued}，"
    "已放弃等待 {abandoned}。本月接口调用 {calls} 次，收到消息 {pushes} 条。首次响应 {first_card} 毫秒，"
    "回答 {answer} 毫秒（中位数）。不可用：{closed}。",
)


def texts_to(language: str, message: IncomingMessage) -> Texts:
    """The sentences to speak with to whoever wrote `message`; `language` is the configuration's, as in `texts_for`.

    A command says little about a person's language, and no text nothing at all. The name may say more.
    """
    is_command = read_command(message.text, from_admin=message.from_admin) is not None
    hint = f"{message.text} {message.sender_name}" if is_command or not message.text else message.text
    return texts_for(language, hint)


def texts_for(language: str, question: str) -> Texts:
    """The sentences to answer `question` with.

    `language` is the configuration's: `"en-US"`, `"zh-CN"`, or `"auto"` (Chinese if the question has a Han character).
    """
    if language == "auto":
        language = "zh-CN" if _HAN.search(question) else "en-US"
    return CHINESE if language == "zh-CN" else ENGLISH
