// scopekeeper for OpenCode: names the session of each command, and stops what a deleted session left.
//
// It prints nothing and never fails: OpenCode must work as it does without it.
import { spawn } from "node:child_process";

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

// The name of a session's scopes; "" if there is no session to be named.
function nameOf(id) {
  return typeof id === "string" && ID.test(id) ? `opencode:${id}` : "";
}

function stop(session) {
  try {
    const program = spawn("scopekeeper", ["stop", "-s", session], {
      cwd: "/", // the project's folder is not kept in use
      detached: true,
      stdio: "ignore",
    });
    program.on("error", () => {}); // scopekeeper is missing
    program.unref();
  } catch {
    // no process can be started
  }
}

export const Scopekeeper = async () => ({
  "shell.env": async (input, output) => {
    const session = nameOf(input?.sessionID);
    // what runs in a scope belongs to that session already
    if (!session || !output || process.env.SCOPEKEEPER_SESSION) return;
    output.env ??= {};
    output.env.SCOPEKEEPER_SESSION ??= session;
  },
  event: async ({ event } = {}) => {
    if (event?.type !== "session.deleted") return;
    const session = nameOf(event.properties?.info?.id ?? event.properties?.sessionID);
    if (session) stop(session);
  },
});
