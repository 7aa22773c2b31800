// The plugin that runs inside an OpenClaw gateway. It sets the session in the environment of
// servers and commands, and calls `scopekeeper stop` when a session ends. It starts and ends no
// process of a session itself. Every hook returns at once and never throws, so the gateway neither
// waits for the plugin nor fails because of it.
import fs from "node:fs";
import { containBackends } from "./backends.js";
import {
  environmentOf, hasScopePerLife, isOverWithItsRun, laneOf, sessionIdOf, sessionOf,
} from "./identity.js";
import { noteEnd, takeEnd } from "./life.js";
import { Program } from "./program.js";
import { giveIdentity, manager } from "./servers.js";
import { Report } from "./report.js";

const VERSION = "0.1.0";

export default {
  id: "scopekeeper",
  name: "scopekeeper",
  description: "Contains the processes of sessions, and ends them with their session.",
  register(api) {
    const warn = (text) => api.logger?.warn?.(`scopekeeper: ${text}`);
    const owner = ownerOf(process);
    // `stop --mine` must see the same owner as launches do
    const environment = owner === undefined ? {} : { SCOPEKEEPER_OWNER: String(owner) };
    const program = new Program(api.pluginConfig?.program ?? "scopekeeper", warn, environment);
    const report = new Report({ plugin: VERSION, openclaw: api.runtime?.version ?? null, owner });
    giveIdentity(
      (params) => environmentOf(params, owner),
      (methods, error) => {
        report.change({ identity: methods });
        if (methods.length === 0) {
          warn(`cannot pass the session to servers: ${error ?? "OpenClaw has no such method"}`);
        }
      },
    );

    const contain = () => containBackends({
      program: api.pluginConfig?.program ?? "scopekeeper",
      environmentFor: (run) => environmentOf(run, owner),
      warn,
    });
    contain();

    const on = (name, act) =>
      api.on(name, (event, context) => {
        try {
          return act(event ?? {}, context ?? {});
        } catch (error) {
          warn(`${name}: ${error?.message ?? error}`);
          return undefined;
        }
      });

    on("agent_end", (_event, { sessionKey, sessionId, trigger }) => {
      if (isOverWithItsRun(sessionKey, trigger)) {
        end(program, { sessionKey, sessionId }, `agent_end: ${trigger ?? "run"}`);
      }
    });
    on("session_end", ({ sessionId, sessionKey, reason }, context) => {
      const key = sessionKey ?? context.sessionKey;
      // compaction only shortens the transcript: the session and its servers go on
      if (reason === "compaction") return;
      const leaving = reason === "shutdown" || reason === "restart";
      end(program, { sessionKey: key, sessionId }, `session_end: ${reason ?? ""}`, leaving);
    });
    on("subagent_ended", ({ targetSessionKey, outcome }) => {
      // a reset of the main session calls this hook for main, which goes on
      if (laneOf(targetSessionKey) === "subagent") {
        end(program, { sessionKey: targetSessionKey }, `subagent_ended: ${outcome ?? ""}`);
      }
    });
    on("gateway_start", ({ port }) => {
      contain(); // backends that were registered before this plugin
      report.write({ port });
      const ended = takeEnd();
      if (ended !== undefined && !keepsServers()) endLife(program, ended);
      program.call(["reconcile"]);
    });
    on("gateway_stop", ({ reason }) => {
      noteEnd(reason);
      report.remove();
    });

    if (resolvesExecEnvironment(api.runtime?.version)) {
      on("resolve_exec_env", ({ host, sessionKey }, context) =>
        isHere(host) ? environmentOf({ sessionKey, ...context }, owner) : undefined,
      );
    } else {
      on("before_tool_call", ({ toolName, params }, context) => {
        const environment = toolName === "exec" && isHere(params?.host) && params
          ? environmentOf(context, owner)
          : undefined;
        return environment && { params: { ...params, env: { ...params.env, ...environment } } };
      });
    }
  },
};

// Ends what this gateway has started for a session up to now. The time separates the lives of the
// session: the next one may start before `stop` runs, with the same key and, from 2026.9 on, the
// same id.
function end(program, { sessionKey, sessionId }, note, leaving = false) {
  const session = sessionOf(sessionKey);
  const id = hasScopePerLife(sessionKey) ? sessionIdOf(sessionId) : undefined;
  if (session === undefined && id === undefined) return;
  const now = Date.now();
  program.call([
    "stop", "--mine",
    ...(session === undefined ? [] : ["--session", session]),
    ...(id === undefined ? [] : ["--session-id", id]),
    "--started-before", `@${now / 1000}`,
    "--lifetime", "gateway",
    // when the gateway leaves, members of lifetime session go on; `detached` never ends here
    ...(leaving ? [] : ["--lifetime", "session"]),
    "--note", `OpenClaw ${note}`,
  ]);
  if (!leaving) forget(sessionKey, sessionId);
}

// Ends what an earlier gateway in this process started and left behind.
function endLife(program, ended) {
  program.call([
    "stop", "--mine",
    "--started-before", `@${ended / 1000}`,
    "--lifetime", "gateway",
    "--note", "OpenClaw gateway_start: restarted in the same process",
  ]);
}

// Whether this is OpenClaw 2026.4, which keeps the servers of an ended session, and of all sessions
// when it restarts in its process, and never replaces them. Later versions clean up by themselves.
function keepsServers() {
  return typeof manager()?.getOrCreate === "function";
}

// Makes 2026.4 dispose of the servers of an ended session.
function forget(sessionKey, sessionId) {
  if (!keepsServers()) return;
  const servers = manager();
  const id = sessionId ?? servers.resolveSessionId?.(sessionKey);
  if (id !== undefined) Promise.resolve(servers.disposeSession?.(id)).catch(() => {});
}

// The gateway's pid; undefined if it is a service, whose unit is the owner. 2026.9 starts servers
// through helper processes, so scopekeeper cannot use their parent.
function ownerOf({ env, pid, ppid }) {
  try {
    const cgroup = /^0::(.*)$/m.exec(fs.readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "";
    const main = Number(env.SYSTEMD_EXEC_PID);
    if (cgroup.endsWith(".service") && (main === pid || main === ppid)) return undefined;
  } catch {
    // no such file: the pid is the owner
  }
  return pid;
}

function isHere(host) {
  return host === undefined || host === null || host === "gateway" || host === "auto";
}

// Whether OpenClaw has the hook resolve_exec_env (2026.9). In 2026.4, only the parameters of the
// tool can carry the environment.
function resolvesExecEnvironment(version) {
  const [year, month] = String(version ?? "").split(".").map(Number);
  return year > 2026 || (year === 2026 && month >= 9);
}
