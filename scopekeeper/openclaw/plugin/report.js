// Writes a file with the facts of this gateway, for `scopekeeper openclaw status`.
import fs from "node:fs";
import path from "node:path";

// The report that was written last. OpenClaw may start a plugin anew before it stops the old one,
// which must not remove the file of the new one.
const LAST = Symbol.for("scopekeeper.openclaw.report");
// What says which gateway this is: `openclaw status` shows those of one profile. OpenClaw sets them
// from its options, so they are not in /proc.
const PROFILE = [
  "HOME", "OPENCLAW_HOME", "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH", "OPENCLAW_PROFILE",
];

export class Report {
  #facts;
  #written = false;

  constructor(facts) {
    const environment = Object.fromEntries(
      PROFILE.filter((name) => process.env[name]).map((name) => [name, process.env[name]]),
    );
    this.#facts = { version: 1, pid: process.pid, identity: null, environment, ...facts };
  }

  // Call it only in a gateway: OpenClaw's other commands load the plugin too.
  write(facts) {
    this.#written = true;
    globalThis[LAST] = this;
    this.change(facts);
  }

  change(facts) {
    Object.assign(this.#facts, facts);
    if (!this.#written) return;
    try {
      const file = place();
      fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
      fs.writeFileSync(`${file}.new`, `${JSON.stringify(this.#facts)}\n`, { mode: 0o600 });
      fs.renameSync(`${file}.new`, file);
    } catch {
      // `openclaw status` then reports a gateway without the plugin
    }
  }

  remove() {
    this.#written = false;
    if (globalThis[LAST] !== this) return;
    try {
      fs.unlinkSync(place());
    } catch {
      // it does not exist
    }
  }
}

function place() {
  const uid = process.getuid();
  const runtime = uid === 0 ? "/run" : `/run/user/${uid}`;
  return path.join(runtime, "scopekeeper", `openclaw-${process.pid}.json`);
}
