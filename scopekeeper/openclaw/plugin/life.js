// The lives of a gateway that restarts within its process (OPENCLAW_NO_RESPAWN): its pid, and the
// InvocationID of its unit, stay the same, so that nobody else can tell the two apart. What is kept
// is when the last one ended: nothing of the next life has been started by then.
const ENDED = Symbol.for("scopekeeper.openclaw.ended");

// reason is that of gateway_stop. The hook is also called where a plugin is only replaced, and all
// sessions go on: so only OpenClaw's own word for a restart (2026.4.9 to 2026.9.6) counts.
export function noteEnd(reason) {
  if (/^gateway restart/.test(String(reason))) globalThis[ENDED] = Date.now();
}

// When the life before this one ended, in milliseconds; undefined where this is the first, and from
// the second call on.
export function takeEnd() {
  const ended = globalThis[ENDED];
  delete globalThis[ENDED];
  return ended;
}
