// Maps an OpenClaw session to scopekeeper's session, lane and session id. OpenClaw names a session
// by a key (`agent:<agent>:<rest>`), and each of its lives by an id. Pure.
import { createHash } from "node:crypto";

// The most characters that scopekeeper accepts for either (names.py).
const LONGEST = 512;
// Parts of a key that precede a peer's name, which may be any text.
const PEERS = new Set(["direct", "dm", "group", "channel", "thread", "topic"]);
// Lanes by the part of the key after the agent: sessions that OpenClaw creates for one run of its
// own (2026.4.9 to 2026.9.6), and hooks, which it runs like cron jobs.
const LANES = {
  cron: "cron", hook: "cron", subagent: "subagent", temp: "nested", helper: "nested",
  "setup-inference": "nested", "internal-session-effects": "nested", "update-repair": "nested",
};

const isText = (value) => typeof value === "string" && value.length > 0 && !value.includes("\0");

// The session name: the key. A key that is too long is cut, and ends with its hash.
export function sessionOf(key) {
  if (!isText(key)) return undefined;
  if ([...key].length <= LONGEST) return key;
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 32);
  return `${[...key].slice(0, LONGEST - 33).join("")}:${hash}`;
}

export function sessionIdOf(id) {
  return isText(id) && [...id].length <= LONGEST ? id : undefined;
}

// OpenClaw's hooks do not pass the lane, so this derives it from the key.
export function laneOf(key) {
  const parts = String(key ?? "").split(":");
  if (parts[0] === "temp") return "nested";
  if (parts[0] !== "agent") return "main";
  if (parts.length > 3 && Object.hasOwn(LANES, parts[2])) return LANES[parts[2]];
  const last = parts.length - 1;
  if (last > 2 && parts[last] === "heartbeat" && !PEERS.has(parts[last - 1])) return "heartbeat";
  return "main";
}

// Whether the session ends with its run, because nobody comes back to it. A subagent may get more
// messages; the hook subagent_ended reports its end.
export function isOverWithItsRun(key, trigger) {
  return trigger !== "user" && ["cron", "heartbeat", "nested"].includes(laneOf(key));
}

// Whether each life of a session has its own scope. In lane main, the next life may join the scope
// of the previous one, which keeps the session id that it was created with.
export function hasScopePerLife(key) {
  return sessionOf(key) === undefined || laneOf(key) !== "main";
}

// The environment that selects the scope for `scopekeeper run` and `scopekeeper-shell`.
export function environmentOf({ sessionKey, sessionId }, owner) {
  const session = sessionOf(sessionKey);
  if (session === undefined) return undefined;
  const id = sessionIdOf(sessionId);
  return {
    SCOPEKEEPER_SESSION: session,
    SCOPEKEEPER_LANE: laneOf(sessionKey),
    ...(id === undefined ? {} : { SCOPEKEEPER_SESSION_ID: id }),
    ...(owner === undefined ? {} : { SCOPEKEEPER_OWNER: String(owner) }),
  };
}
