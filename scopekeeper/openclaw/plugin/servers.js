// Gives each MCP server the session that it is started for.
//
// OpenClaw keeps the servers of its sessions in one object for the whole process, under a symbol
// that it does not document (2026.4.9 to 2026.9.6). Its getOrCreate (2026.4) or acquire (2026.9) is
// told the session and the configuration: there the environment of that session is added. Where
// that object is another one day, servers are contained all the same, in a session that is named
// after the gateway.
import path from "node:path";

const MANAGER = Symbol.for("openclaw.sessionMcpRuntimeManager");
// What stays when the plugin is loaded again: the methods are replaced once, and ask whoever is
// there by then.
const OURS = Symbol.for("scopekeeper.openclaw.servers");
const STARTING = ["getOrCreate", "acquire"];

// environmentFor(params) returns variables, or undefined; seen(method names) is called once it is
// known whether there was anything to replace.
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

// The object is made at the first turn: by an assignment, which the object that globalThis
// inherits from sees, since nothing of that name is there yet.
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
    return params; // the gateway's own affairs go on, whatever its objects have become
  }
}

// Whether `scopekeeper wrap`, or a person, put us before its command; no other has to know.
function isContained(server) {
  return (
    typeof server?.command === "string" &&
    path.basename(server.command) === "scopekeeper" &&
    server.args?.[0] === "run"
  );
}
