// Runs Claude Code through `scopekeeper run` where OpenClaw uses it as a model (`claude-cli`), in the
// session that it works for. Its servers and commands are then in that session's scope, too.
//
// OpenClaw keeps its backends in a registry under an undocumented symbol. From 2026.9 on, a backend
// prepares a function that starts the program and gets its command line; a prefix of that is kept,
// as the documentation of backends says. If a version has no such function, or a future one changes
// any of this, the program runs as without this plugin.
import { AsyncLocalStorage } from "node:async_hooks";
import fs from "node:fs";
import path from "node:path";

const REGISTRY = Symbol.for("openclaw.pluginRegistryState");
// Of the run that the current code belongs to.
const RUN = Symbol.for("openclaw.agentEvents.executionContext");
const OURS = Symbol.for("scopekeeper.openclaw.backend");
// The functions of the latest plugin: a backend may outlive the plugin that changed it.
const LATEST = Symbol.for("scopekeeper.openclaw.backends");
const BACKEND = "claude-cli";
const OPTIONS = ["run", "--name", "claude", "--real-shell", "--if-unavailable=warn"];

// environmentFor({sessionKey, sessionId}) returns variables or undefined.
export function containBackends({ program, environmentFor, warn }) {
  globalThis[LATEST] = { program, environmentFor, warn };
  for (const registry of registries()) follow(registry.cliBackends);
}

function registries() {
  const state = globalThis[REGISTRY];
  return [state?.registrationContext?.registry, state?.activeRegistry].filter(
    (each) => Array.isArray(each?.cliBackends),
  );
}

// Changes the backends of a list, and those that are added to it.
function follow(list) {
  for (const entry of list) change(entry?.backend);
  if (Object.hasOwn(list, OURS) || !Object.isExtensible(list)) return;
  Object.defineProperty(list, OURS, { value: true });
  Object.defineProperty(list, "push", {
    configurable: true,
    value(...entries) {
      for (const entry of entries) change(entry?.backend);
      return Array.prototype.push.apply(this, entries);
    },
  });
}

function change(backend) {
  if (backend?.id !== BACKEND || Object.hasOwn(backend, OURS)) return;
  if (!Object.isExtensible(backend)) return;
  Object.defineProperty(backend, OURS, { value: true });
  const prepare = backend.prepareExecution;
  if (typeof prepare !== "function") return;
  backend.prepareExecution = function prepareContained(...args) {
    const prepared = prepare.apply(this, args);
    return typeof prepared?.then === "function" ? prepared.then(contained) : contained(prepared);
  };
}

// Returns what a backend has prepared, with a function that starts the program contained.
function contained(prepared) {
  if (typeof prepared?.execute !== "function") return prepared;
  return { ...prepared, execute: (execution) => prepared.execute(launched(execution)) };
}

function launched(execution) {
  const { environmentFor, warn } = globalThis[LATEST];
  try {
    const { command, args, argv0, env, sessionId } = execution;
    const program = launcher(env);
    // a program with another name than its file's cannot be started by a launcher
    const isPlain = typeof command === "string" && Array.isArray(args) && argv0 === undefined;
    if (!isPlain || program === undefined) return execution;
    const identity = environmentFor(currentRun()) ?? (sessionId && {
      SCOPEKEEPER_SESSION: `claude:${sessionId}`,
    });
    return {
      ...execution,
      command: program,
      args: [...OPTIONS, "--", command, ...args],
      env: { ...env, ...identity },
    };
  } catch (error) {
    warn(`${BACKEND} runs outside of scopes: ${error?.message ?? error}`);
    return execution;
  }
}

// The key and id of the session that the current run belongs to.
function currentRun() {
  const run = globalThis[RUN];
  const store = run instanceof AsyncLocalStorage ? run.getStore() : undefined;
  const found = [...(store?.routingByRun?.values?.() ?? [])].map((each) => each?.routing);
  const keys = new Set(found.map((each) => each?.sessionKey).filter(Boolean));
  return keys.size === 1 ? found.findLast((each) => each?.sessionKey) : {};
}

// The path of the launcher; undefined if there is none: the program then runs without it.
function launcher(env) {
  const { program, warn } = globalThis[LATEST];
  const folders = program.includes("/") ? [""] : String(env?.PATH ?? "").split(path.delimiter);
  const found = folders.map((each) => path.join(each, program)).find(isProgram);
  if (found === undefined) warn(`there is no ${program}; ${BACKEND} runs outside of scopes`);
  return found;
}

function isProgram(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return path.isAbsolute(file);
  } catch {
    return false;
  }
}
