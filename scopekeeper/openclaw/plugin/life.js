// Separates the lives of a gateway that restarts within its process (OPENCLAW_NO_RESPAWN). Its pid
// and the InvocationID of its unit stay the same, so only the time of the restart separates what
// the two lives started. This keeps that time.
const ENDED = Symbol.for("scopekeeper.openclaw.ended");

// reason is that of gateway_stop. OpenClaw also calls the hook when it only replaces a plugin, and
// all sessions go on; so only its own text for a restart counts (2026.4.9 to 2026.9.6).
export function noteEnd(reason) {
  if (/^gateway restart/.test(String(reason))) globalThis[ENDED] = Date.now();
}

// When the previous life ended, in milliseconds. undefined in the first life, and after the first
// call.
export function takeEnd() {
  const ended = globalThis[ENDED];
  delete globalThis[ENDED];
  return ended;
}
