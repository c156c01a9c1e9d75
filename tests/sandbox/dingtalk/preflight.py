"""What DingTalk says to the credentials before anybody asks the first question: an access token, a connection's ticket.

Owns the sentences, in both languages. Asks by the robot's own `Api` and `Network`, so that what works here works there;
sends no message, and uses no ticket: that the endpoint can be reached, the robot's log says. Blocks for two calls at
most.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from imRobots.dingTalkStreamType.config import DingTalkConfig
    from imRobots.dingTalkStreamType.network import Network
    from imRobots.Meta import IMRobotError

ID, SECRET = "DINGTALK_CLIENT_ID", "DINGTALK_CLIENT_SECRET"
_WHERE = "Basic Information > Credentials and Basic Information"
# English and Chinese; a line is put together of several.
_SENTENCES = {
    "empty": (
        "The environment variable {name} is not set, or empty. The developer console shows its value under {where}.",
        "环境变量 {name} 没有设置，或者是空的。它的值在开发者后台的“基础信息 > 凭证与基础信息”里。",
    ),
    "blanks": ("{name} has blanks or line breaks in it.", "{name} 里有空格或换行。"),
    "quotes": ("{name} has quotation marks in it.", "{name} 里有引号。"),
    "placeholder": ("{name} looks like a placeholder.", "{name} 看起来还是占位符。"),
    "swapped": (
        "{id} and {secret} look swapped: a Client ID begins with “ding” or “suite”.",
        "{id} 和 {secret} 看起来填反了：Client ID 以 “ding” 或 “suite” 开头。",
    ),
    "same": ("{id} and {secret} have the same value.", "{id} 和 {secret} 的值相同。"),
    "set": ("{id} and {secret} are set and look right.", "{id} 和 {secret} 已设置，看起来没有问题。"),
    "token": ("Access token:", "访问令牌："),
    "gateway": ("Stream gateway:", "Stream 网关："),
    "granted": ("granted (HTTP {status}), valid for {hours} h.", "已获取（HTTP {status}），有效期 {hours} 小时。"),
    "opened": (
        "it answered (HTTP {status}) with the endpoint {host} and a ticket. The robot's log says whether the endpoint "
        "can be reached.",
        "已应答（HTTP {status}），给出了接入点 {host} 和一张票据。接入点能否连通，请看机器人的日志。",
    ),
    "incomplete": (
        "it answered HTTP {status} without an endpoint and a ticket.",
        "已应答 HTTP {status}，但没有给出接入点和票据。",
    ),
    "refused": ("DingTalk refused: {answer}.", "钉钉拒绝了：{answer}。"),
    "odd": (
        "{host}{proxy} gave an answer that is none of DingTalk's: {answer}.",
        "{host}{proxy} 的应答不像钉钉的：{answer}。",
    ),
    "busy": (
        "{host}{proxy} is in trouble: {answer}. Try again later.",
        "{host}{proxy} 出了问题：{answer}。请稍后再试。",
    ),
    "silent": ("no answer of {host}{proxy}: {error}.", "{host}{proxy} 没有应答：{error}。"),
    "unusable": ("{host}{proxy} cannot be reached: {error}", "无法连接 {host}{proxy}：{error}"),
    "credentials": (
        "The Client ID and the Client Secret do not belong together: one may be another application's or an earlier "
        "one, or a part is missing. Copy both anew from {where}.",
        "Client ID 与 Client Secret 不匹配：可能属于另一个应用、是已经重置的旧值，或者没有复制完整。"
        "请在“基础信息 > 凭证与基础信息”里重新复制两者。",
    ),
    "address": (
        "This computer's public address is not on the application's list of allowed ones: add it in the developer "
        "console, under security settings.",
        "本机的公网地址不在应用的 IP 白名单里：请在开发者后台的安全设置里添加。",
    ),
    "throttled": (
        "Too many calls: wait some minutes, and see whether another process asks all the time.",
        "调用太频繁：请等几分钟，并检查是否有别的进程在不停地调用。",
    ),
    "stream": (
        "See in the developer console that the application is published, that its robot receives messages in Stream "
        "mode, and that this computer's address is allowed.",
        "请在开发者后台检查：应用已发布，机器人的消息接收模式是 Stream 模式，本机地址在 IP 白名单里。",
    ),
    "unknown": (
        "See the application in the developer console: is it there, and active?",
        "请在开发者后台检查这个应用：它还在吗，启用了吗？",
    ),
    "network": (
        "Is there a network, and may this computer reach that host? Where it takes a proxy, HTTPS_PROXY or the key "
        "`proxy` names it; where it takes none, NO_PROXY.",
        "请检查网络，以及本机能否访问该主机。"
        "需要代理时用 HTTPS_PROXY 或配置项 proxy 指定；不该走代理时用 NO_PROXY 排除。",
    ),
    "between": (
        "Something on the way answers in DingTalk's place: a proxy, or a network that wants a login first.",
        "可能是途中的代理或需要先登录的网络代替钉钉做了应答。",
    ),
    "certificate": (
        "A certificate that is expired or not yet valid may also mean that this computer's clock is wrong.",
        "（若需信任自己组织的证书，请设置配置项 caFile。）如果提示证书已过期或尚未生效，也可能是本机的时钟不对。",
    ),
    "proxy": (
        "It is the way through the proxy that does not work, not DingTalk.",
        "问题出在代理上，而不是钉钉：请检查 HTTPS_PROXY 或配置项 proxy。",
    ),
    "others": (
        "Note: DingTalk hands each message and each click to one of an application's connections, at random. Another "
        "process with the same Client ID (a JitNode, a second sandbox) takes some of them away.",
        "注意：钉钉把每条消息、每次点击随机交给该应用的一个连接。"
        "使用同一个 Client ID 的其他进程（JitNode、另一个沙箱）会收走一部分。",
    ),
    "permissions": (
        "Not checked, because only sending something would show it: the permissions Card.Instance.Write, "
        "Card.Streaming.Write and qyapi_robot_sendmsg. Where one is missing, answers come in a plainer form or not at "
        "all, and the log says what DingTalk refused.",
        "没有检查（只有真正发送才能知道）：权限 Card.Instance.Write、Card.Streaming.Write 和 qyapi_robot_sendmsg。"
        "缺少时，回答会以较简单的形式出现，或者发不出来；钉钉拒绝了什么，日志里有。",
    ),
}
_PLACEHOLDER = re.compile(
    r"<.*>|\{\{.*|\$\{?\w+\}?|%\w+%|\.{3,}|…+|(?:ding)?x{3,}|\*{3,}|your.*|changeme|todo|placeholder", re.I
)


class Line(NamedTuple):
    """`ok`: False for what is wrong, or may be. What is only to be known counts as good, and says so itself."""

    ok: bool
    en: str
    zh: str


def preflight(
    client_id: str,
    client_secret: str,
    config: DingTalkConfig | None = None,
    names: tuple[str, str] = (ID, SECRET),
) -> list[Line]:
    """`config` says through which proxy, and trusting which certificates; without it, the environment does.

    `names`: of the variables, or keys, that the two stand in.
    """
    lines = _look_at(client_id, client_secret, names)
    if client_id.strip() and client_secret.strip():
        lines += _ask(client_id, client_secret, config)
    return lines


def _look_at(client_id: str, client_secret: str, where: tuple[str, str]) -> list[Line]:
    problems = []
    for name, value in zip(where, (client_id, client_secret), strict=True):
        if not value.strip():
            problems.append(_line(False, "empty", name=name, where=_WHERE))
            continue
        found = {
            "blanks": re.search(r"\s", value),
            "quotes": re.search("[\"'“”‘’`]", value),
            "placeholder": _PLACEHOLDER.fullmatch(value.strip().strip("\"'")),
        }
        problems += [_line(False, key, name=name) for key, match in found.items() if match]
    names = dict(zip(("id", "secret"), where, strict=True))
    if client_id and client_id == client_secret:
        problems.append(_line(False, "same", **names))
    elif client_secret.startswith("ding") and not client_id.startswith(("ding", "suite")):
        problems.append(_line(False, "swapped", **names))
    return problems or [_line(True, "set", **names)]


def _ask(client_id: str, client_secret: str, config: DingTalkConfig | None) -> list[Line]:
    # Here, because the SDK reads its address from the environment when it is imported.
    from dingtalk_stream import CallbackHandler, ChatbotMessage, Credential

    from imRobots.dingTalkStreamType.api import Api
    from imRobots.dingTalkStreamType.network import Network
    from imRobots.dingTalkStreamType.stream_client import StreamClient
    from imRobots.Meta import AuthError, IMRobotError, RateLimited, TransportError

    class Listening(Network):
        heard: tuple[int, bytes] | None = None

        def request(self, *call: Any) -> tuple[int, bytes]:
            self.heard = None
            self.heard = super().request(*call)
            return self.heard

    network = Listening(config.proxy, config.caFile) if config else Listening()
    client = StreamClient(Credential(client_id, client_secret))
    client.api = Api(client.credential, network)
    for topic in (ChatbotMessage.TOPIC, CallbackHandler.TOPIC_CARD_CALLBACK):  # as `ClientManager` does
        client.register_callback_handler(topic, CallbackHandler())
    lines = []
    try:
        try:
            client.api.token()
            status, answer = _heard(network.heard)
            lines.append(_line(True, "token", "granted", status=status, hours=f"{answer['expireIn'] / 3600:.3g}"))
        except IMRobotError as error:
            lines.append(_refusal("token", error, network, client_secret))
            if isinstance(error, AuthError | TransportError) and not isinstance(error, RateLimited):
                return lines  # the gateway would say the same
        try:
            opened = client.open_connection()
            status, _ = _heard(network.heard)
            host = urlsplit(str(opened.get("endpoint"))).hostname
            is_whole = host and opened.get("ticket")
            lines.append(
                _line(bool(is_whole), "gateway", "opened" if is_whole else "incomplete", status=status, host=host)
            )
        except IMRobotError as error:
            lines.append(_refusal("gateway", error, network, client_secret))
    finally:
        client.api.close()
    if lines[-1].ok:
        lines += [_line(True, "others"), _line(True, "permissions")]
    return lines


def _refusal(what: str, error: IMRobotError, network: Any, client_secret: str) -> Line:
    """What was answered, or why there is no answer, and what may be wrong."""
    from imRobots.dingTalkStreamType.logs import mask
    from imRobots.Meta import AuthError, Misconfigured, RateLimited, ReplyRefused

    status, answer = _heard(network.heard)
    code = str(answer.get("code") or answer.get("errcode") or "")
    message = str(answer.get("message") or answer.get("errmsg") or "")
    if isinstance(error, AuthError):
        keys = ["refused", "credentials"]
    elif isinstance(error, RateLimited):
        keys = ["refused", "throttled"]
    elif isinstance(error, ReplyRefused):
        keys = ["refused", "address" if error.cause == "address" else "stream" if what == "gateway" else "unknown"]
    elif isinstance(error, Misconfigured):
        keys = ["unusable", "certificate" if "certificate" in str(error) else "proxy"]
    elif not status:
        keys = ["silent", "network"]
    else:
        keys = ["busy"] if code else ["odd", "between"]
    values = {
        "answer": f"HTTP {status} {code} {message}".strip(),
        "error": str(error).partition(": ")[2] or str(error),
        "where": _WHERE,
        **_way(network),
    }
    secretless = {name: mask(value.replace(client_secret.strip(), "***")) for name, value in values.items()}
    return _line(False, what, *keys, **secretless)


def _way(network: Network) -> dict[str, str]:
    """Whom is spoken with, and through which proxy, without its password."""
    from dingtalk_stream import utils

    from imRobots.Meta import Misconfigured

    try:
        proxy = network.proxy_for(utils.DINGTALK_OPENAPI_ENDPOINT)
    except Misconfigured:
        proxy = None
    shown = f" (proxy {urlsplit(proxy).netloc.rpartition('@')[2]})" if proxy else ""
    return {"host": urlsplit(utils.DINGTALK_OPENAPI_ENDPOINT).netloc.rpartition("@")[2], "proxy": shown}


def _heard(heard: tuple[int, bytes] | None) -> tuple[int, dict[str, Any]]:
    """An answer's status and JSON; 0 where there was no answer."""
    status, content = heard or (0, b"")
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    return status, answer if isinstance(answer, dict) else {}


def _line(ok: bool, *keys: str, **values: Any) -> Line:
    english, chinese = zip(*(_SENTENCES[key] for key in keys), strict=True)
    return Line(ok, " ".join(english).format(**values), "".join(chinese).format(**values))
