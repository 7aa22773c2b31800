// What a session is called: in OpenClaw a key (`agent:<agent>:<rest>`) and an id for each of its
// lives. Pure.
import { createHash } from "node:crypto";

// The most characters that scopekeeper takes for either (names.py).
const LONGEST = 512;
// What stands before the name of somebody who writes, and that name may be any text.
const PEERS = new Set(["direct", "dm", "group", "channel", "thread", "topic"]);
// The lanes of sessions that say by what follows the agent what they are: those that OpenClaw makes
// for one run of its own (2026.4.9 to 2026.9.6), and hooks, which it runs as it does cron jobs.
const LANES = {
  cron: "cron", hook: "cron", subagent: "subagent", temp: "nested", helper: "nested",
  "setup-inference": "nested", "internal-session-effects": "nested", "update-repair": "nested",
};

const isText = (value) => typeof value === "string" && value.length > 0 && !value.includes("\0");

// The session as scopekeeper has it: the key, or what is left of one that is too long.
export function sessionOf(key) {
  if (!isText(key)) return undefined;
  if ([...key].length <= LONGEST) return key;
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 32);
  return `${[...key].slice(0, LONGEST - 33).join("")}:${hash}`;
}

export function sessionIdOf(id) {
  return isText(id) && [...id].length <= LONGEST ? id : undefined;
}

// No hook tells the lane: it follows from the key.
export function laneOf(key) {
  const parts = String(key ?? "").split(":");
  if (parts[0] === "temp") return "nested";
  if (parts[0] !== "agent") return "main";
  if (parts.length > 3 && Object.hasOwn(LANES, parts[2])) return LANES[parts[2]];
  const last = parts.length - 1;
  if (last > 2 && parts[last] === "heartbeat" && !PEERS.has(parts[last - 1])) return "heartbeat";
  return "main";
}

// Whether a run with that trigger was all there is of its session: nobody comes back to it. A
// subagent may be sent more; that it is over, its own hook says.
export function isOverWithItsRun(key, trigger) {
  return trigger !== "user" && ["cron", "heartbeat", "nested"].includes(laneOf(key));
}

// Whether every life of a session has a scope of its own. In the others the next life may join the
// scope of the one before, which goes on under the id that it was made with.
export function hasScopePerLife(key) {
  return sessionOf(key) === undefined || laneOf(key) !== "main";
}

// The environment by which `scopekeeper run` and `scopekeeper-shell` know where they belong.
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
