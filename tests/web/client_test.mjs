// What of web/ runs without a browser: header parser, client, playout queue, resampler.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { backOffMs, parseAudioFrame, ProtocolError, SonorantClient } from '../../web/sonorant.js';
import { pcmToFloat, Resampler } from '../../web/player.js';
import { PlayoutQueue } from '../../web/worklet.js';
import { packFrame } from './fake_server.mjs';

function toArrayBuffer(buffer) {
  return Uint8Array.from(buffer).buffer;
}

// --- header ---

test('header: every field at its offset, little-endian', () => {
  // Written out by hand so that it does not depend on packFrame.
  const bytes = Uint8Array.of(1, 2, 5, 0, 4, 3, 2, 1, 8, 7, 6, 5, 1, 0, 0, 0, 1, 0, 0, 0, 0xaa, 0xbb);
  const frame = parseAudioFrame(bytes.buffer);
  assert.equal(frame.kind, 2);
  assert.deepEqual([frame.first, frame.last, frame.seam], [true, false, true]);
  assert.equal(frame.ctx, 0x01020304);
  assert.equal(frame.seq, 0x05060708);
  assert.equal(frame.position, 2 ** 32 + 1);
  assert.deepEqual([...frame.payload], [0xaa, 0xbb]);
});

test('header: extremes of ctx, seq and position', () => {
  const frame = { kind: 1, flags: 2, ctx: 0xffffffff, seq: 0xffffffff, position: Number.MAX_SAFE_INTEGER };
  const parsed = parseAudioFrame(toArrayBuffer(packFrame({ ...frame, payload: Buffer.alloc(0) })));
  assert.deepEqual([parsed.ctx, parsed.seq, parsed.position], [0xffffffff, 0xffffffff, Number.MAX_SAFE_INTEGER]);
  assert.equal(parsed.last, true);
  assert.equal(parsed.payload.length, 0);
});

test('header: what version 1 does not define is refused', () => {
  const good = packFrame({ kind: 1, flags: 0, ctx: 1, seq: 0, position: 0, payload: Buffer.from([1]) });
  for (let length = 0; length < 20; length++) {
    assert.throws(() => parseAudioFrame(toArrayBuffer(good.subarray(0, length))), ProtocolError);
  }
  for (const [offset, value] of [[0, 0], [0, 2], [1, 0], [1, 3], [19, 0xff]]) {
    const bad = Buffer.from(good);
    bad[offset] = value;
    assert.throws(() => parseAudioFrame(toArrayBuffer(bad)), ProtocolError, `byte ${offset} = ${value}`);
  }
});

// --- client ---

class FakeSocket {
  static all = [];
  constructor(url, protocol) {
    Object.assign(this, { url, protocol, sent: [], closed: false });
    FakeSocket.all.push(this);
  }
  send(data) {
    this.sent.push(JSON.parse(data));
  }
  close() {
    this.closed = true;
  }
  receive(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  receiveFrame(fields) {
    const whole = { kind: 1, flags: 0, position: 0, payload: Buffer.from([9]), ...fields };
    this.onmessage({ data: toArrayBuffer(packFrame(whole)) });
  }
}

async function connected(options = {}) {
  const client = new SonorantClient('ws://test/v1/stream', { WebSocket: FakeSocket, ...options });
  const events = [];
  for (const type of ['state', 'opened', 'marks', 'audio', 'done', 'cancelled', 'closed', 'error']) {
    client.addEventListener(type, ({ detail }) => events.push([type, detail]));
  }
  const hello = client.connect();
  const socket = FakeSocket.all.at(-1);
  socket.receive({ type: 'hello', protocol: 'sonorant.v1' });
  await hello;
  return { client, socket, events, of: (type) => events.filter(([t]) => t === type).map(([, detail]) => detail) };
}

test('client: offers the subprotocol and sends exactly the protocol’s messages', async (t) => {
  const { client, socket } = await connected();
  t.after(() => client.close());
  assert.equal(socket.protocol, 'sonorant.v1');
  const ctx = client.open({ lang: 'en' });
  assert.equal(client.text(ctx, 'Hi.'), true);
  client.flush(ctx, 7);
  client.flush(ctx);
  client.credit(ctx, 500);
  client.end(ctx);
  client.cancel(ctx, 12);
  assert.deepEqual(socket.sent, [
    { type: 'open', ctx, lang: 'en' },
    { type: 'text', ctx, text: 'Hi.' },
    { type: 'flush', ctx, id: 7 },
    { type: 'flush', ctx },
    { type: 'credit', ctx, ms: 500 },
    { type: 'end', ctx },
    { type: 'cancel', ctx, played_ms: 12 },
  ]);
  assert.notEqual(client.open(), ctx);
});

test('client: long text goes out in pieces that together are the text', async (t) => {
  const { client, socket } = await connected();
  t.after(() => client.close());
  const ctx = client.open();
  const text = 'a😀é\u0001'.repeat(20000);
  assert.equal(client.text(ctx, text), true);
  assert.equal(client.text(ctx, ''), true);
  const texts = socket.sent.filter(({ type }) => type === 'text');
  assert.equal(texts.map((message) => message.text).join(''), text);
  for (const message of texts) assert.ok(Buffer.byteLength(JSON.stringify(message)) < 64 * 1024);
});

test('client: room() waits for the server to confirm a cancelled context', async (t) => {
  const { client, socket } = await connected();
  t.after(() => client.close());
  await client.room();
  const ctx = client.open();
  client.cancel(ctx, 0);
  let room = false;
  const waiting = client.room().then(() => (room = true));
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(room, false);
  socket.receive({ type: 'cancelled', ctx });
  await waiting;
  // A lost connection ends the waiting too.
  client.open();
  const lost = client.room();
  client.close();
  await lost;
});

test('client: frames after cancel, after done and of unknown contexts are dropped', async (t) => {
  const { client, socket, of } = await connected();
  t.after(() => client.close());
  const a = client.open();
  socket.receiveFrame({ ctx: a, seq: 0 });
  client.cancel(a, 0);
  socket.receiveFrame({ ctx: a, seq: 1 });
  socket.receive({ type: 'cancelled', ctx: a });
  socket.receiveFrame({ ctx: a, seq: 2 });
  socket.receiveFrame({ ctx: 99, seq: 0 });
  const b = client.open();
  socket.receiveFrame({ ctx: b, seq: 0 });
  socket.receive({ type: 'done', ctx: b });
  socket.receiveFrame({ ctx: b, seq: 1 });
  assert.deepEqual(of('audio').map(({ ctx, seq }) => [ctx, seq]), [[a, 0], [b, 0]]);
  assert.equal(client.droppedFrames, 4);
  assert.deepEqual(of('closed'), [{ ctx: a, reason: 'cancelled' }, { ctx: b, reason: 'done' }]);
  assert.equal(client.text(b, 'late'), false);
});

test('client: a gap in seq and a broken frame are reported, and audio goes on', async (t) => {
  const { client, socket, of } = await connected();
  t.after(() => client.close());
  const ctx = client.open();
  socket.receiveFrame({ ctx, seq: 0 });
  socket.receiveFrame({ ctx, seq: 2 });
  socket.receiveFrame({ ctx, seq: 3 });
  socket.onmessage({ data: new ArrayBuffer(3) });
  socket.onmessage({ data: '{' });
  assert.equal(of('audio').length, 3);
  assert.deepEqual(of('error').map(({ code }) => code), ['bad_message', 'bad_message', 'bad_message']);
});

test('client: an error with ctx ends that context only', async (t) => {
  const { client, socket, of } = await connected();
  t.after(() => client.close());
  const a = client.open();
  const b = client.open();
  socket.receive({ type: 'error', ctx: a, code: 'unknown_voice', message: '' });
  // The server's answer to what was already on its way to the ended context is not shown as another error.
  socket.receive({ type: 'error', ctx: a, code: 'unknown_context', message: '' });
  assert.equal(of('error').length, 1);
  assert.deepEqual(of('closed'), [{ ctx: a, reason: 'error' }]);
  assert.equal(client.isLive(b), true);
  assert.equal(client.state, 'online');
});

test('client: a lost socket ends its contexts and is dialled again with growing waits', async (t) => {
  const { client, socket, of } = await connected();
  t.after(() => client.close());
  const ctx = client.open();
  const sockets = FakeSocket.all.length;
  socket.onclose({ code: 1006, reason: '' });
  assert.deepEqual(of('closed'), [{ ctx, reason: 'disconnected' }]);
  assert.equal(client.state, 'waiting');
  assert.throws(() => client.open(), ProtocolError);
  while (FakeSocket.all.length === sockets) await new Promise((resolve) => setTimeout(resolve, 20));
  const again = FakeSocket.all.at(-1);
  again.receive({ type: 'hello' });
  assert.equal(client.state, 'online');
  assert.ok(client.open() > ctx, 'context numbers are not used twice');
  // The old socket's last words mean nothing now.
  socket.onclose({ code: 1006, reason: '' });
  assert.equal(client.state, 'online');
});

test('client: close() leaves for good, and connect() without reconnect rejects', async () => {
  const { client, socket } = await connected();
  client.close();
  assert.equal(client.state, 'offline');
  assert.equal(socket.closed, true);
  const single = new SonorantClient('ws://test/', { WebSocket: FakeSocket, reconnect: false });
  const hello = single.connect();
  FakeSocket.all.at(-1).onclose({ code: 1006, reason: '' });
  await assert.rejects(hello);
});

test('back-off: doubles from 250 ms to 10 s with 25 % jitter', () => {
  assert.deepEqual([0, 1, 5, 6, 50].map((n) => backOffMs(n, () => 0.5)), [250, 500, 8000, 10000, 10000]);
  assert.equal(backOffMs(0, () => 0), 187.5);
  assert.equal(backOffMs(6, () => 1), 12500);
});

// --- samples ---

test('pcm: s16le at any offset', () => {
  const bytes = Uint8Array.of(0xee, 0x00, 0x80, 0xff, 0x7f, 0x00, 0x00).subarray(1);
  assert.deepEqual([...pcmToFloat(bytes)], [-1, 32767 / 32768, 0]);
});

test('resampler: any chunking gives the same samples, and a sine stays a sine', () => {
  const rate = 24000;
  const input = Float32Array.from({ length: 4800 }, (_, i) => Math.sin((2 * Math.PI * 440 * i) / rate));
  const whole = new Resampler(rate, 48000).process(input);
  for (const size of [1, 7, 480, 1000]) {
    const resampler = new Resampler(rate, 48000);
    const parts = [];
    for (let i = 0; i < input.length; i += size) parts.push(...resampler.process(input.subarray(i, i + size)));
    assert.deepEqual(parts, [...whole], `pieces of ${size}`);
  }
  assert.ok(Math.abs(whole.length - 2 * input.length) <= 4);
  // Two input samples of delay: the interpolation reads one sample ahead.
  let worst = 0;
  for (let i = 100; i < whole.length; i++) {
    worst = Math.max(worst, Math.abs(whole[i] - Math.sin((2 * Math.PI * 440 * (i / 2 - 2)) / rate)));
  }
  assert.ok(worst < 1e-3, `worst error ${worst}`);
  assert.equal(new Resampler(48000, 48000).process(input), input);
});

// --- playout ---

const RATE = 48000;
const BLOCK = 128;
const CUSHION = (60 * RATE) / 1000;

function run(queue, samples) {
  const out = new Float32Array(Math.ceil(samples / BLOCK) * BLOCK);
  for (let i = 0; i < out.length; i += BLOCK) queue.render(out.subarray(i, i + BLOCK));
  return out;
}

function ramp(n, from = 1) {
  return Float32Array.from({ length: n }, (_, i) => (from + i) / 1e6);
}

test('playout: silent until the cushion is full, then every sample once and in order', () => {
  const queue = new PlayoutQueue(RATE);
  queue.push(1, ramp(CUSHION - 10));
  assert.ok(run(queue, 4 * BLOCK).every((x) => x === 0));
  queue.push(1, ramp(1010, CUSHION - 9));
  queue.end(1);
  const out = run(queue, CUSHION + 1000 + BLOCK);
  assert.deepEqual(out.slice(0, CUSHION + 1000), ramp(CUSHION + 1000));
  assert.deepEqual(queue.events.map(({ type }) => type), ['started', 'audible', 'ended']);
  assert.equal(queue.events.at(-1).played, CUSHION + 1000);
  assert.equal(queue.misses, 0);
});

test('playout: a short utterance starts as soon as its end is known', () => {
  const queue = new PlayoutQueue(RATE);
  queue.push(1, ramp(100));
  run(queue, BLOCK);
  queue.end(1);
  assert.deepEqual(run(queue, BLOCK).slice(0, 100), ramp(100));
});

test('playout: without an end, less than a cushion starts after the grace time', () => {
  const queue = new PlayoutQueue(RATE);
  queue.push(1, ramp(100));
  const silent = run(queue, CUSHION + 0.1 * RATE - BLOCK);
  assert.ok(silent.every((x) => x === 0));
  assert.ok(run(queue, 3 * BLOCK).some((x) => x > 0));
});

test('playout: late audio grows the cushion, a pause in the text does not', () => {
  const queue = new PlayoutQueue(RATE);
  const loud = new Float32Array(CUSHION).fill(0.5);
  queue.push(1, loud);
  const out = run(queue, CUSHION + 10 * BLOCK);
  // Running dry decays instead of stepping to zero.
  for (let i = CUSHION; i < out.length; i++) assert.ok(Math.abs(out[i] - out[i - 1]) < 0.05);
  queue.push(1, loud);
  assert.equal(queue.misses, 1);
  assert.equal(queue.cushion, CUSHION + 0.02 * RATE);
  queue.push(1, loud);
  const resumed = run(queue, 2 * CUSHION);
  assert.ok(resumed[0] < 0.02 && resumed[400] === 0.5, 'fades in after the gap');
  run(queue, 0.6 * RATE);
  queue.push(1, loud);
  assert.equal(queue.misses, 1, 'a gap of 0.6 s is a pause');
});

test('playout: clear fades out within 8 ms and nothing follows', () => {
  const queue = new PlayoutQueue(RATE);
  queue.push(1, new Float32Array(RATE).fill(0.5));
  run(queue, 1000);
  queue.clear(1);
  queue.push(1, new Float32Array(RATE).fill(0.5));
  const out = run(queue, RATE);
  const fade = 0.008 * RATE;
  for (let i = 1; i < fade; i++) assert.ok(out[i] <= out[i - 1] && out[i - 1] - out[i] < 0.01);
  assert.ok(out.slice(fade).every((x) => x === 0));
  assert.equal(queue.queued, 0);
  assert.equal(queue.events.at(-1).played, 1024 + fade);
});

test('playout: contexts play one after another, and clearing one keeps the others', () => {
  const queue = new PlayoutQueue(RATE);
  for (let i = 0; i < 10; i++) {
    for (const ctx of [1, 2, 3]) queue.push(ctx, new Float32Array(960).fill(ctx / 10));
  }
  for (const ctx of [1, 2, 3]) queue.end(ctx);
  queue.clear(2);
  const out = run(queue, 30 * 960);
  const near = (value) => (x) => Math.abs(x - value) < 1e-6;
  assert.ok(out.slice(0, 9600).every(near(0.1)));
  assert.ok(out.slice(9600, 19200).every(near(0.3)));
  assert.ok(out.slice(19700).every(near(0)));
});

test('playout: random pushes, clears and ends never lose count', () => {
  const seed = Number(process.env.SONORANT_SEED ?? Date.now() % 1e9);
  let state = seed;
  const random = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const queue = new PlayoutQueue(RATE);
  const pushed = new Map();
  for (let step = 0; step < 5000; step++) {
    const ctx = 1 + Math.floor(step / 250) + random(2);
    const action = random(20);
    const before = queue.queued;
    if (action < 12) queue.push(ctx, new Float32Array(random(2000)).fill(0.1));
    else if (action === 12) queue.end(ctx);
    else if (action === 13) queue.clear(ctx);
    else run(queue, BLOCK * random(10));
    if (action < 12) pushed.set(ctx, (pushed.get(ctx) ?? 0) + queue.queued - before);
    const sum = [...queue.contexts.values()].reduce((n, context) => n + context.queued, 0);
    assert.equal(sum, queue.queued, `SONORANT_SEED=${seed} step ${step}`);
    for (const { ctx: id, played } of queue.contexts.values()) assert.ok(played <= (pushed.get(id) ?? 0), `SONORANT_SEED=${seed}`);
  }
});
