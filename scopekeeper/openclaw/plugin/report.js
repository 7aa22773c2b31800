// Writes a file with the facts of this gateway, for `scopekeeper openclaw status`.
import fs from "node:fs";
import path from "node:path";

export class Report {
  #facts;
  #written = false;

  constructor(facts) {
    this.#facts = { version: 1, pid: process.pid, identity: null, ...facts };
  }

  // Call it only in a gateway: OpenClaw's other commands load the plugin too.
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
      // `openclaw status` then reports a gateway without the plugin
    }
  }

  remove() {
    this.#written = false;
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
