// The half of scopekeeper that runs in an OpenClaw gateway. It starts nothing and ends nothing
// itself: it says which session a server or a command belongs to, and calls `scopekeeper stop` when
// a session is over. Every hook returns at once, and none of them throws: the gateway never waits
// for this, nor fails by it.
import fs from "node:fs";
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
  description: "Contains what sessions start, and ends it with them.",
  register(api) {
    const say = (text) => api.logger?.warn?.(`scopekeeper: ${text}`);
    const owner = ownerOf(process);
    // `stop --mine` takes whom launches take for their owner, and both are told alike
    const environment = owner === undefined ? {} : { SCOPEKEEPER_OWNER: String(owner) };
    const program = new Program(api.pluginConfig?.program ?? "scopekeeper", say, environment);
    const report = new Report({ plugin: VERSION, openclaw: api.runtime?.version ?? null, owner });
    giveIdentity(
      (params) => environmentOf(params, owner),
      (methods, error) => {
        report.change({ identity: methods });
        if (methods.length === 0) {
          say(`servers cannot be told their session here: ${error ?? "no such method"}`);
        }
      },
    );

    const on = (name, act) =>
      api.on(name, (event, context) => {
        try {
          return act(event ?? {}, context ?? {});
        } catch (error) {
          say(`${name}: ${error?.message ?? error}`);
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
      // a session whose text was only made shorter goes on, and so do its servers
      if (reason === "compaction") return;
      const leaving = reason === "shutdown" || reason === "restart";
      end(program, { sessionKey: key, sessionId }, `session_end: ${reason ?? ""}`, leaving);
    });
    on("subagent_ended", ({ targetSessionKey, outcome }) => {
      // when main is reset it is told of main too, which goes on
      if (laneOf(targetSessionKey) === "subagent") {
        end(program, { sessionKey: targetSessionKey }, `subagent_ended: ${outcome ?? ""}`);
      }
    });
    on("gateway_start", ({ port }) => {
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

// Ends what this gateway had started for a session until this moment. The moment separates its
// lives: the next one may have begun by the time that this is read, with the same key and, from
// 2026.9 on, the same id.
function end(program, { sessionKey, sessionId }, reason, leaving = false) {
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
    // what was to outlive the gateway outlives it; detached ends by a person's word alone
    ...(leaving ? [] : ["--lifetime", "session"]),
    "--reason", `OpenClaw ${reason}`,
  ]);
  if (!leaving) forget(sessionKey, sessionId);
}

// Ends what an earlier life of this process had started until its end, and left behind.
function endLife(program, ended) {
  program.call([
    "stop", "--mine",
    "--started-before", `@${ended / 1000}`,
    "--lifetime", "gateway",
    "--reason", "OpenClaw gateway_start: restarted in the same process",
  ]);
}

// 2026.4 keeps the servers of a session that is over, and those of all sessions when it restarts in
// its process, and never starts others in their place. Later versions do both by themselves.
function keepsServers() {
  return typeof manager()?.getOrCreate === "function";
}

// Has 2026.4 let go of the servers of a session that is over.
function forget(sessionKey, sessionId) {
  if (!keepsServers()) return;
  const servers = manager();
  const id = sessionId ?? servers.resolveSessionId?.(sessionKey);
  if (id !== undefined) Promise.resolve(servers.disposeSession?.(id)).catch(() => {});
}

// The gateway, where no service is it: 2026.9 starts servers through processes of its own, so their
// parent says nothing.
function ownerOf({ env, pid, ppid }) {
  try {
    const cgroup = /^0::(.*)$/m.exec(fs.readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "";
    const main = Number(env.SYSTEMD_EXEC_PID);
    if (cgroup.endsWith(".service") && (main === pid || main === ppid)) return undefined;
  } catch {
    // no such file: then by pid
  }
  return pid;
}

function isHere(host) {
  return host === undefined || host === null || host === "gateway" || host === "auto";
}

// Of 2026.9; in 2026.4 the parameters of the tool are the only way.
function resolvesExecEnvironment(version) {
  const [year, month] = String(version ?? "").split(".").map(Number);
  return year > 2026 || (year === 2026 && month >= 9);
}
