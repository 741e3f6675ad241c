// The server under test: $SONORANT_URL, else build/release/sonorant on a free port, else the fake server.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { startFakeServer } from './fake_server.mjs';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const START_LIMIT_MS = 60000;

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

async function startProgram(program) {
  const port = await freePort();
  const command = [program, 'serve', '--port', String(port)];
  const child = spawn(command[0], command.slice(1), { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  child.stderr.on('data', (data) => (output += data));
  const exited = new Promise((resolve) => child.on('exit', resolve));
  const close = async () => {
    child.kill('SIGTERM');
    await exited;
  };
  const url = `http://127.0.0.1:${port}/`;
  for (const end = Date.now() + START_LIMIT_MS; Date.now() < end; ) {
    if (child.exitCode !== null) throw new Error(`${program} exited with ${child.exitCode}:\n${output}`);
    const ready = await fetch(`${url}readyz`).then(({ ok }) => ok, () => false);
    if (ready) return { url, close };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await close();
  throw new Error(`${program} was not ready within ${START_LIMIT_MS} ms:\n${output}`);
}

/** Resolves to {url, close}; the URL ends in a slash. */
export async function startServer() {
  const given = process.env.SONORANT_URL;
  if (given) {
    console.log(`server: ${given}`);
    return { url: given.endsWith('/') ? given : `${given}/`, close: () => {} };
  }
  const program = process.env.SONORANT_PROGRAM ?? path.join(root, 'build', 'release', 'sonorant');
  if (existsSync(program)) {
    console.log(`server: ${path.relative(root, program)}`);
    return startProgram(program);
  }
  console.log('server: the fake one');
  return startFakeServer();
}
