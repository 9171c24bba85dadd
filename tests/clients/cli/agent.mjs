// What every program of this folder shares: it runs an agent's own command line, once for each question, in a folder
// and a home of its own. The model has the agent print files with its own shell.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** What the test asks for. */
export const asked = JSON.parse(process.argv[2]);

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

const calls = [];
const root = mkdtempSync(join(tmpdir(), "agent-"));
const home = join(root, "home");
const work = join(root, "work");

/** What a program throws if its agent has no way to do something. */
export class Unsupported extends Error {}

/** Writes a file below the agent's home. */
export function configure(path, text) {
  const file = join(home, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/**
 * Plays the scenario and tells how it went, in one line.
 *
 * An agent has the name of its `package` and of its `binary`, further `environment`, the arguments for one `question`
 * (with `{ model, text, image, session }`, of which `session` is what it said of itself before) and reads what one run
 * prints: `read(lines)` gives `{ text, calls, session, error }`.
 */
export async function play(agent) {
  mkdirSync(home, { recursive: true });
  mkdirSync(work);
  for (const city of ["Paris", "Tokyo", "Lima"]) {
    writeFileSync(join(work, `${city}.txt`), `Rain over ${city}, 12 degrees.\n`);
  }
  writeFileSync(join(work, "pixel.png"), Buffer.from(PIXEL, "base64"));
  const told = { final: null, calls, refused: null, unsupported: null, version: version(agent.package) };
  let session;
  const ask = async (model, text, { image } = {}) => {
    const seen = await run(agent, { model, text, image: image && join(work, "pixel.png"), session });
    session = seen.session ?? session;
    calls.push(...seen.calls);
    if (seen.error) {
      throw new Refused(seen.error);
    }
    return seen.text;
  };
  try {
    told.final = await scenarios[asked.scenario](ask);
  } catch (error) {
    if (error instanceof Unsupported) {
      told.unsupported = error.message;
    } else if (error instanceof Refused) {
      told.refused = error.message;
    } else {
      throw error;
    }
  } finally {
    rmSync(root, { recursive: true, force: true, maxRetries: 5 });
  }
  console.log(JSON.stringify(told));
}

class Refused extends Error {}

function version(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;
}

const scenarios = {
  async loop(ask) {
    await ask(asked.model, "Look at Paris.txt, Tokyo.txt and Lima.txt. How is the weather?");
    return ask(asked.model, "And what should I take with me?");
  },
  parallel(ask) {
    return ask(asked.model, "Look at Paris.txt and Tokyo.txt. What should I take with me?");
  },
  image(ask) {
    return ask(asked.model, "How is the weather where this picture was taken?", { image: true });
  },
  abort() {
    throw new Unsupported("an answer cannot be left without ending the program");
  },
  async switch(ask) {
    await ask(asked.model, "How is the weather in Paris?");
    await ask(asked.other_model, "And in Tokyo?");
    return ask(asked.model, "And in Lima? What should I take with me?");
  },
};

async function run(agent, question) {
  const { args, input } = agent.question(question);
  const binary = new URL(`node_modules/.bin/${agent.binary}`, import.meta.url).pathname;
  const node = dirname(process.execPath);
  const env = { PATH: `${node}:${process.env.PATH}`, LANG: "C.UTF-8", HOME: home, NO_PROXY: "127.0.0.1", ...agent.environment };
  const child = spawn(binary, args, { cwd: work, env, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.end(input ?? "");
  let [out, err] = ["", ""];
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (err += data));
  const status = await new Promise((resolve, reject) => child.on("close", resolve).on("error", reject));
  process.stderr.write(`$ ${agent.binary} ${args.join(" ")}\n${out}\n${err}\n`);
  const seen = agent.read(out.split("\n").flatMap(parsed));
  if (status !== 0 && !seen.error) {
    seen.error = err.trim() || out.trim() || `it ended with ${status}`;
  }
  return seen;
}

/** The lines that are JSON; agents print others too. */
function parsed(line) {
  try {
    return [JSON.parse(line)];
  } catch {
    return [];
  }
}
