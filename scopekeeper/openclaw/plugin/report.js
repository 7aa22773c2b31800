// A file that says what this plugin found in its gateway, for `scopekeeper openclaw status`.
import fs from "node:fs";
import path from "node:path";

export class Report {
  #facts;
  #written = false;

  constructor(facts) {
    this.#facts = { version: 1, pid: process.pid, identity: null, ...facts };
  }

  // Only a gateway writes: the plugin is loaded by OpenClaw's other commands as well.
  write(facts) {
    this.#written = true;
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
      // then status says that it knows nothing of this gateway
    }
  }

  remove() {
    this.#written = false;
    try {
      fs.unlinkSync(place());
    } catch {
      // it was not there
    }
  }
}

function place() {
  const uid = process.getuid();
  const runtime = uid === 0 ? "/run" : `/run/user/${uid}`;
  return path.join(runtime, "scopekeeper", `openclaw-${process.pid}.json`);
}
