// Adds the session to the environment of each MCP server.
//
// OpenClaw keeps the servers of its sessions in one object for the whole process, under an
// undocumented symbol (2026.4.9 to 2026.9.6). Its method getOrCreate (2026.4) or acquire (2026.9)
// gets the session and the configuration; this replaces it to add that session's environment. If a
// future version changes the object, servers are still contained, in a session named after the
// gateway.
import path from "node:path";

const MANAGER = Symbol.for("openclaw.sessionMcpRuntimeManager");
// State that survives a reload of the plugin: the methods are replaced only once, and call the
// functions of the latest plugin.
const OURS = Symbol.for("scopekeeper.openclaw.servers");
const STARTING = ["getOrCreate", "acquire"];

// environmentFor(params) returns variables or undefined. seen(names, error) is called with the
// names of the replaced methods, once the object exists.
export function giveIdentity(environmentFor, seen) {
  const first = globalThis[OURS] === undefined;
  globalThis[OURS] ??= {};
  Object.assign(globalThis[OURS], { environmentFor, seen });
  if (Object.hasOwn(globalThis, MANAGER)) {
    replaceMethods(globalThis[MANAGER]);
  } else if (first) {
    waitForManager();
  }
}

export function manager() {
  return Object.hasOwn(globalThis, MANAGER) ? globalThis[MANAGER] : undefined;
}

// OpenClaw creates the object at the first turn, by an assignment to globalThis. Until then
// globalThis has no such property, so a setter on its prototype sees the assignment.
function waitForManager() {
  const heir = Object.getPrototypeOf(globalThis);
  Object.defineProperty(heir, MANAGER, {
    configurable: true,
    get: () => undefined,
    set(value) {
      delete heir[MANAGER];
      replaceMethods(value);
      globalThis[MANAGER] = value;
    },
  });
}

function replaceMethods(made) {
  const ours = globalThis[OURS];
  try {
    const methods = STARTING.filter((name) => typeof made?.[name] === "function");
    for (const name of ours.manager === made ? [] : methods) {
      const original = made[name];
      made[name] = function starting(params, ...rest) {
        return original.call(this, withIdentity(params), ...rest);
      };
    }
    ours.manager = made;
    ours.seen(methods);
  } catch (error) {
    ours.seen([], error);
  }
}

function withIdentity(params) {
  try {
    const servers = params?.cfg?.mcp?.servers;
    const environment = servers && globalThis[OURS].environmentFor(params);
    if (!environment) return params;
    const named = Object.fromEntries(
      Object.entries(servers).map(([name, server]) => [
        name,
        isContained(server) ? { ...server, env: { ...server.env, ...environment } } : server,
      ]),
    );
    return { ...params, cfg: { ...params.cfg, mcp: { ...params.cfg.mcp, servers: named } } };
  } catch {
    return params; // the gateway must go on, even if its objects have changed
  }
}

// Whether the server starts through `scopekeeper run`; others need no environment.
function isContained(server) {
  return (
    typeof server?.command === "string" &&
    path.basename(server.command) === "scopekeeper" &&
    server.args?.[0] === "run"
  );
}
