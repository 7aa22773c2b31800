// Calls the `scopekeeper` command in the background: never awaited, a few at a time, each with a
// timeout.
import { spawn } from "node:child_process";

const AT_ONCE = 4;
const LONGEST_MS = 60_000;
const MOST_WAITING = 1000;
const STDERR_KEPT = 4096;
const USAGE_ERROR = 2;

export class Program {
  #path;
  #warn;
  #environment;
  #waiting = [];
  #running = 0;
  #missed = false;

  // path may be a name in PATH; warn(text) logs for the operator; environment is added to that of
  // the gateway.
  constructor(path, warn, environment = {}) {
    this.#path = path;
    this.#warn = warn;
    this.#environment = environment;
  }

  // Whether the last attempt found no program.
  get isMissing() {
    return this.#missed;
  }

  call(args) {
    if (this.#waiting.length >= MOST_WAITING) {
      const [verb] = this.#waiting.shift();
      const until = "its processes may stay until the gateway ends";
      this.#warn(`${verb}: dropped, since ${MOST_WAITING} calls wait; ${until}`);
    }
    this.#waiting.push(args);
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length > 0) {
      this.#running += 1;
      this.#start(this.#waiting.shift());
    }
  }

  #start(args) {
    let done = false;
    let stderr = "";
    let timer;
    const over = () => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      this.#running -= 1;
      this.#next();
    };
    try {
      const child = spawn(this.#path, args, {
        env: { ...process.env, ...this.#environment },
        stdio: ["ignore", "ignore", "pipe"],
      });
      timer = setTimeout(() => child.kill(), LONGEST_MS);
      for (const each of [timer, child, child.stderr]) {
        each.unref?.(); // a gateway that exits does not wait for it
      }
      child.stderr.on("data", (data) => {
        if (stderr.length < STDERR_KEPT) stderr += data;
      });
      child.on("error", (error) => {
        this.#failed(error);
        over();
      });
      child.on("exit", (status, signal) => {
        this.#missed = false;
        const older = status === USAGE_ERROR ? forOlder(args) : undefined;
        if (older !== undefined) {
          this.call(older);
        } else if (status !== 0) {
          this.#warn(`${args[0]}: ${stderr.trim() || signal || status}`);
        }
        over();
      });
    } catch (error) {
      this.#failed(error);
      over();
    }
  }

  #failed(error) {
    const missing = error.code === "ENOENT";
    if (!(missing && this.#missed)) {
      this.#warn(
        missing
          ? `there is no ${this.#path}; processes do not end with their session`
          : `${this.#path} cannot be started: ${error.message}`,
      );
    }
    this.#missed = missing;
  }
}

// The same call for a scopekeeper that does not know --note yet; undefined if it has none.
function forOlder(args) {
  const at = args.indexOf("--note");
  return at < 0 ? undefined : args.with(at, "--reason");
}
