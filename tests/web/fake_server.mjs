// Serves web/ and speaks the wire protocol with canned sound, so that the page can be tested without the engine.
// Strict about what a client may send. `node fake_server.mjs [port]` runs it by hand.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const here = path.dirname(fileURLToPath(import.meta.url));
const webRoot = path.join(here, '..', '..', 'web');

export const CSP =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self' ws: wss:; " +
  "base-uri 'none'; form-action 'none'; object-src 'none'";
const MIME = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const OPUS_PRE_SKIP = 312;
const MAX_CONTEXTS = 1; // a cancelled one counts until its `cancelled`
const FRAME_MS = 20;
const MS_PER_CHARACTER = 60;
const FIRST_PACKET_MS = 60;
const SPEED_UP = 4; // times real time
const IN_FLIGHT_MS = 120; // frames go on this long after a cancel, as they would from a socket's buffer

/** The audio packets of an Ogg Opus file (RFC 3533, RFC 7845). */
export function readOggPackets(bytes) {
  const packets = [];
  let open = [];
  for (let at = 0; at < bytes.length; ) {
    const segments = bytes[at + 26];
    let body = at + 27 + segments;
    for (let s = 0; s < segments; s++) {
      const size = bytes[at + 27 + s];
      open.push(bytes.subarray(body, body + size));
      body += size;
      if (size < 255) {
        packets.push(Buffer.concat(open));
        open = [];
      }
    }
    at = body;
  }
  return packets.slice(2); // OpusHead, OpusTags
}

export function packFrame({ kind, flags, ctx, seq, position, payload }) {
  const header = Buffer.alloc(20);
  header.writeUInt8(1, 0);
  header.writeUInt8(kind, 1);
  header.writeUInt16LE(flags, 2);
  header.writeUInt32LE(ctx, 4);
  header.writeUInt32LE(seq, 8);
  header.writeBigUInt64LE(BigInt(position), 12);
  return Buffer.concat([header, payload]);
}

const CLIENT_FIELDS = {
  open: ['ctx', 'voice', 'lang', 'format', 'marks', 'seed', 'speed', 'sampling', 'buffering'],
  text: ['ctx', 'text'],
  flush: ['ctx', 'id'],
  end: ['ctx'],
  cancel: ['ctx', 'played_ms'],
  credit: ['ctx', 'ms'],
  ping: ['id'],
};

class FakeSession {
  constructor(socket, packets) {
    this.socket = socket;
    this.packets = packets;
    this.contexts = new Map();
    socket.on('message', (data, binary) => this.onMessage(data, binary));
    socket.on('close', () => this.contexts.forEach((context) => clearInterval(context.timer)));
    this.say({
      type: 'hello',
      protocol: 1,
      session: 'fake',
      server: 'fake/1',
      limits: { max_message_bytes: 65536, max_text_chars: 100000, max_contexts: MAX_CONTEXTS },
      voices: [
        { id: 'starter', name: 'Starter', langs: ['en'], rate: 24000 },
        { id: 'second', name: 'Second', langs: ['en', 'zh'], rate: 24000 },
      ],
      formats: [{ codec: 'opus', rates: [48000, 24000, 16000] }],
    });
  }

  say(message) {
    if (this.socket.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  error(ctx, code, message) {
    this.say({ type: 'error', ...(ctx === undefined ? {} : { ctx }), code, message });
    clearInterval(this.contexts.get(ctx)?.timer);
    this.contexts.delete(ctx);
  }

  onMessage(data, binary) {
    if (binary) return this.error(undefined, 'bad_message', 'binary');
    const message = JSON.parse(data);
    const { type, ctx } = message;
    const allowed = CLIENT_FIELDS[type];
    if (!allowed) return this.error(ctx, 'bad_message', `type ${type}`);
    for (const field of Object.keys(message)) {
      if (field !== 'type' && !allowed.includes(field)) return this.error(ctx, 'bad_message', `${type}: field ${field}`);
    }
    if (type === 'ping') return this.say({ type: 'pong', id: message.id });
    if (!Number.isInteger(ctx) || ctx < 0 || ctx > 0xffffffff) return this.error(undefined, 'bad_message', 'ctx');
    const context = this.contexts.get(ctx);
    if (type === 'open') {
      if (context) return this.error(ctx, 'context_exists', 'open');
      return this.open(message);
    }
    if (!context) return this.error(ctx, 'unknown_context', type);
    if (type === 'text') {
      if (typeof message.text !== 'string') return this.error(ctx, 'bad_message', 'text');
      context.text += message.text;
    } else if (type === 'flush') {
      this.speakUpTo(context, [...context.text].length);
      context.flushes.push({ id: message.id, atMs: context.goalMs });
    } else if (type === 'end') {
      this.speakUpTo(context, [...context.text].length);
      context.ended = true;
    } else if (type === 'cancel') {
      if (message.played_ms !== undefined && !(message.played_ms >= 0)) return this.error(ctx, 'bad_message', 'played_ms');
      context.cancel = { played_ms: message.played_ms ?? 0 };
      setTimeout(() => this.cancelled(context), IN_FLIGHT_MS);
    }
    return undefined;
  }

  open({ ctx, voice = 'starter', format = {} }) {
    if (this.contexts.size >= MAX_CONTEXTS) return this.error(ctx, 'too_many_contexts', `${MAX_CONTEXTS}`);
    if (!['starter', 'second'].includes(voice)) return this.error(ctx, 'unknown_voice', voice);
    const { codec = 'opus', rate = 48000 } = format;
    if (!['opus', 'pcm_s16le'].includes(codec)) return this.error(ctx, 'unsupported_format', codec);
    const opus = codec === 'opus';
    const context = { ctx, opus, rate, text: '', spoken: 0, goalMs: 0, sentMs: 0, seq: 0, flushes: [], ended: false };
    context.perFrame = (rate * FRAME_MS) / 1000;
    this.contexts.set(ctx, context);
    this.say({
      type: 'opened',
      ctx,
      rate,
      channels: 1,
      frame_samples: context.perFrame,
      pre_skip: opus ? (OPUS_PRE_SKIP * rate) / 48000 : 0,
    });
    context.timer = setInterval(() => this.step(context), FRAME_MS / 2);
    return undefined;
  }

  /** Everything up to this code point becomes sound; marks are sent word by word. */
  speakUpTo(context, end) {
    const points = [...context.text];
    const items = [];
    for (const match of points.slice(context.spoken, end).join('').matchAll(/\S+/gu)) {
      const begin = context.spoken + [...match.input.slice(0, match.index)].length;
      const length = [...match[0]].length;
      const t0 = context.goalMs;
      context.goalMs += (length + 1) * MS_PER_CHARACTER;
      items.push({ text: match[0], in_start: begin, in_end: begin + length, t0_ms: t0, t1_ms: context.goalMs });
    }
    context.spoken = end;
    context.startAt ??= Date.now() + FIRST_PACKET_MS;
    if (items.length > 0) this.say({ type: 'marks', ctx: context.ctx, items });
  }

  step(context) {
    if (!context.cancel) {
      const points = [...context.text];
      const unspoken = points.slice(context.spoken);
      const stop = unspoken.findIndex((c, i) => '.!?。！？'.includes(c) && (unspoken[i + 1] ?? '') === ' ');
      if (stop >= 0) this.speakUpTo(context, context.spoken + stop + 1);
    }
    if (context.startAt === undefined || Date.now() < context.startAt) return;
    const due = Math.min(context.goalMs, context.sentMs + (SPEED_UP * FRAME_MS) / 2);
    while (context.sentMs < due) this.sendFrame(context);
    while (context.flushes.length > 0 && context.sentMs >= context.flushes[0].atMs) {
      const { id, atMs } = context.flushes.shift();
      this.say({ type: 'flushed', ctx: context.ctx, id, t_ms: atMs });
    }
    if (context.ended && context.sentMs >= context.goalMs && !context.cancel) {
      clearInterval(context.timer);
      this.contexts.delete(context.ctx);
      const metrics = { queue_ms: 0, text_ms: 1, prefill_ms: 2, first_token_ms: 3, first_audio_ms: 60, tokens: 10, rtf: 0.25 };
      this.say({ type: 'done', ctx: context.ctx, audio_ms: context.sentMs, metrics: { ...metrics, worst_lag_ms: 0 } });
    }
  }

  sendFrame(context) {
    const { opus, perFrame, seq, rate } = context;
    const last = context.ended && context.sentMs + FRAME_MS >= context.goalMs;
    let payload;
    if (opus) {
      payload = this.packets[seq % this.packets.length];
    } else {
      payload = Buffer.alloc(perFrame * 2);
      for (let i = 0; i < perFrame; i++) {
        const t = (seq * perFrame + i) / rate;
        payload.writeInt16LE(Math.round(9000 * Math.sin(2 * Math.PI * 330 * t)), 2 * i);
      }
    }
    const flags = (seq === 0 ? 1 : 0) | (last ? 2 : 0);
    this.socket.send(packFrame({ kind: opus ? 1 : 2, flags, ctx: context.ctx, seq, position: seq * perFrame, payload }));
    context.seq++;
    context.sentMs += FRAME_MS;
  }

  cancelled(context) {
    clearInterval(context.timer);
    if (!this.contexts.delete(context.ctx)) return;
    this.say({
      type: 'cancelled',
      ctx: context.ctx,
      generated_ms: context.sentMs,
      played_ms: context.cancel.played_ms,
      spoken_text: '',
      remaining_text: context.text,
    });
  }
}

/** Resolves to {url, close, dropSockets}. */
export async function startFakeServer(port = 0) {
  const packets = readOggPackets(await readFile(path.join(here, 'fixtures', 'tone.opus')));
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const name = { '/': 'index.html', '/overlay': 'overlay.html' }[pathname] ?? pathname.slice(1);
    const file = path.join(webRoot, name);
    try {
      if (!file.startsWith(webRoot + path.sep)) throw new Error('outside web/');
      const body = await readFile(file);
      const type = MIME[path.extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, {
        'content-type': `${type}; charset=utf-8`,
        'content-security-policy': CSP,
        'x-content-type-options': 'nosniff',
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  const sockets = new WebSocketServer({ server, path: '/v1/stream', perMessageDeflate: false });
  sockets.on('connection', (socket) => new FakeSession(socket, packets));
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    dropSockets: () => sockets.clients.forEach((socket) => socket.terminate()),
    close: () => {
      sockets.clients.forEach((socket) => socket.terminate());
      server.closeAllConnections?.();
      server.close();
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log((await startFakeServer(Number(process.argv[2] ?? 0))).url);
}
