// What has happened, as far back as the server keeps it, and what a person has chosen here.
//
// Owns both, and what can be read out of them without words. Draws nothing and asks nobody: the server's messages are
// put in by whoever shows them.

const KEPT = 500; // entries, wire items, answers, lines of the log

const nothing = () => ({
  hello: { kinds: {}, examples: {} }, since: 0, chats: [], people: [], switches: [], settings: [], status: {},
  entries: new Map(), wire: new Map(), answers: new Map(), log: new Map(), answer: "", cleared: 0,
  told: new Map(), // by entry: what is said below it
  unread: new Map(), // by place
});
export const state = nothing();
export const chosen = { chat: "", person: "", kind: "text", quote: "" };

/** All anew: the server has just begun to tell, perhaps another one than before. */
export function begin(hello) {
  const { chats, people, switches, settings } = hello;
  Object.assign(state, nothing(), { hello, since: performance.now(), chats, people, switches, settings });
  const among = (things, id) => (things.some((thing) => thing.id === id) ? id : things[0]?.id ?? "");
  const before = remembered();
  chosen.chat = among(chats, chosen.chat || before.chat);
  chosen.person = among(people, chosen.person || before.person);
}

// Where one was survives a reload, in this window.
const REMEMBERED = "imRobots.sandbox.place";

export function remember() {
  try {
    sessionStorage.setItem(REMEMBERED, JSON.stringify({ chat: chosen.chat, person: chosen.person }));
  } catch {
    // a browser that keeps nothing
  }
}

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(REMEMBERED)) ?? {};
  } catch {
    return {};
  }
}

/** What comes at once after the hello has happened before: it is no news. */
export const isNews = () => performance.now() - state.since > 1000;

export function keep(things, key, thing) {
  things.set(key, thing);
  if (things.size > KEPT) things.delete(things.keys().next().value);
}

// ---- chats and their entries

export const chatOf = (id) => state.chats.find((chat) => chat.id === id);
export const isGroup = () => chatOf(chosen.chat)?.kind === "group";
export const kindsHere = () => state.hello.kinds[chatOf(chosen.chat)?.kind] ?? [];
export const viewOf = (entry) => entry.views[chosen.person] ?? entry.view;
export const mentionable = () => [state.hello.robot, ...state.people.map((person) => person.id)].filter(Boolean);
export const entriesOf = (chat) =>
  [...state.entries.values()].filter((entry) => entry.chat === chat && concernsMe(entry));

/** A chat, or in one of two a person's part of it. */
export const placeOf = (chat, person) => (chatOf(chat)?.kind === "single" ? `${chat}/${person}` : chat);

/** In a chat of two each person has a conversation of their own. */
export function concernsMe(entry) {
  return chatOf(entry.chat)?.kind !== "single" || (entry.person ?? entry.with) === chosen.person;
}
