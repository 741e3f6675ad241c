// Client of the Sonorant wire protocol, version 1. No dependencies; runs in browsers and, given a WebSocket class, in Node.
//
//   const client = new SonorantClient();
//   client.addEventListener('audio', ({ detail: frame }) => player.push(frame));
//   await client.connect();
//   const ctx = client.open({ lang: 'en', format: { codec: 'opus', rate: 48000 } });
//   client.text(ctx, 'Hello there.');
//   client.end(ctx);

export const SUBPROTOCOL = 'sonorant.v1';
export const HEADER_BYTES = 20;
export const KIND_OPUS = 1;
export const KIND_PCM = 2;
const FLAG_FIRST = 1;
const FLAG_LAST = 2;
const FLAG_SEAM = 4;

export class ProtocolError extends Error {}

/**
 * One binary frame: 20 little-endian header bytes, then the payload.
 * `position` is the first sample's place in the context at the announced rate, pre-skip not removed.
 * The payload is a view into `buffer`. Throws ProtocolError on what version 1 does not define.
 */
export function parseAudioFrame(buffer) {
  if (buffer.byteLength < HEADER_BYTES) {
    throw new ProtocolError(`audio frame: ${buffer.byteLength} bytes, wanted at least ${HEADER_BYTES}`);
  }
  const view = new DataView(buffer);
  const version = view.getUint8(0);
  if (version !== 1) throw new ProtocolError(`audio frame: version ${version}, wanted 1`);
  const kind = view.getUint8(1);
  if (kind !== KIND_OPUS && kind !== KIND_PCM) throw new ProtocolError(`audio frame: kind ${kind}, wanted 1 or 2`);
  const flags = view.getUint16(2, true);
  const position = view.getBigUint64(12, true);
  if (position > BigInt(Number.MAX_SAFE_INTEGER)) throw new ProtocolError(`audio frame: position ${position} too large`);
  return {
    kind,
    first: (flags & FLAG_FIRST) !== 0,
    last: (flags & FLAG_LAST) !== 0,
    seam: (flags & FLAG_SEAM) !== 0,
    ctx: view.getUint32(4, true),
    seq: view.getUint32(8, true),
    position: Number(position),
    payload: new Uint8Array(buffer, HEADER_BYTES),
  };
}

/** Milliseconds to wait before reconnect attempt n (from 0): 250 doubling to 10 000, 25 % jitter either way. */
export function backOffMs(attempt, random = Math.random) {
  return Math.min(10000, 250 * 2 ** Math.min(attempt, 10)) * (0.75 + 0.5 * random());
}

/** The stream address beside the page that loaded this file. */
export function defaultUrl() {
  const url = new URL('v1/stream', new URL('.', globalThis.location.href));
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = '';
  url.hash = '';
  return url.href;
}

class DetailEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

const PING_EVERY_MS = 15000;
const SILENT_LIMIT_MS = 40000;
const TEXT_PIECE = 8192; // UTF-16 units; at most 48 KiB of JSON

/**
 * One socket, many utterance streams ("contexts"). Events carry `detail`:
 *   state      'offline' | 'connecting' | 'online' | 'waiting' (before the next attempt)
 *   hello, opened, marks, flushed, done, cancelled, error, pong: the server's message
 *   audio      a parsed frame of a live context; frames of ended or cancelled ones are dropped
 *   closed     {ctx, reason: 'done' | 'cancelled' | 'error' | 'disconnected'}: nothing of ctx follows
 *   sent, received   {type, ...}: for a protocol log
 * A context does not survive its socket.
 */
export class SonorantClient extends EventTarget {
  /** options: {reconnect = true, WebSocket = globalThis.WebSocket} */
  constructor(url = defaultUrl(), options = {}) {
    super();
    this.url = url;
    this.hello = null;
    this.state = 'offline';
    this.droppedFrames = 0;
    this.reconnect_ = options.reconnect ?? true;
    this.WebSocket_ = options.WebSocket ?? globalThis.WebSocket;
    this.socket_ = null;
    this.nextCtx_ = 1;
    this.live_ = new Map(); // ctx -> {nextSeq, cancelled}
    this.attempt_ = 0;
    this.retryAfterMs_ = 0;
    this.retryTimer_ = null;
    this.pingTimer_ = null;
    this.lastHeard_ = 0;
    this.wanted_ = false;
    this.helloWaiters_ = [];
    globalThis.addEventListener?.('online', () => this.retryNow_());
    globalThis.document?.addEventListener('visibilitychange', () => {
      if (!globalThis.document.hidden) this.retryNow_();
    });
  }

  /** Resolves with the server's hello; without `reconnect` it rejects when the first attempt fails. */
  connect() {
    this.wanted_ = true;
    if (this.state === 'online') return Promise.resolve(this.hello);
    const hello = new Promise((resolve, reject) => this.helloWaiters_.push({ resolve, reject }));
    if (!this.socket_) this.dial_();
    return hello;
  }

  /** Leaves and does not come back until connect(). */
  close() {
    this.wanted_ = false;
    clearTimeout(this.retryTimer_);
    const socket = this.socket_;
    this.drop_(socket, 'closed');
    socket?.close(1000);
  }

  /** Begins one utterance stream and returns its number. Options are the fields of the protocol's `open`. */
  open(options = {}) {
    if (this.state !== 'online') throw new ProtocolError(`open: the connection is ${this.state}`);
    const ctx = this.nextCtx_;
    this.nextCtx_ = ctx === 0xffffffff ? 1 : ctx + 1;
    this.live_.set(ctx, { nextSeq: 0, cancelled: false });
    this.send_({ type: 'open', ctx, ...options });
    return ctx;
  }

  /**
   * Resolves when the server has room for one more context. A cancelled one counts until the server has confirmed it.
   * Rejects when the connection goes meanwhile.
   */
  async room() {
    const limit = this.hello?.limits?.max_contexts ?? 1;
    while (this.live_.size >= limit) {
      if (this.state !== 'online') throw new ProtocolError(`open: the connection is ${this.state}`);
      await new Promise((resolve) => this.addEventListener('closed', resolve, { once: true }));
    }
  }

  /** Appends text verbatim. Returns false when the context is over, as do flush, end, cancel and credit. */
  text(ctx, text) {
    let sent = this.isLive(ctx);
    // Several messages when it is long: a server limits their size.
    for (let at = 0; sent && at < text.length; at += TEXT_PIECE) {
      sent = this.sendOn_(ctx, { type: 'text', ctx, text: text.slice(at, at + TEXT_PIECE) });
    }
    return sent;
  }

  flush(ctx, id) {
    return this.sendOn_(ctx, id === undefined ? { type: 'flush', ctx } : { type: 'flush', ctx, id });
  }

  end(ctx) {
    return this.sendOn_(ctx, { type: 'end', ctx });
  }

  /** Stops now: audio already under way is dropped here. */
  cancel(ctx, playedMs) {
    const sent = this.sendOn_(ctx, playedMs === undefined ? { type: 'cancel', ctx } : { type: 'cancel', ctx, played_ms: playedMs });
    if (sent) this.live_.get(ctx).cancelled = true;
    return sent;
  }

  credit(ctx, ms) {
    return this.sendOn_(ctx, { type: 'credit', ctx, ms });
  }

  ping(id) {
    if (this.state === 'online') this.send_(id === undefined ? { type: 'ping' } : { type: 'ping', id });
  }

  isLive(ctx) {
    const context = this.live_.get(ctx);
    return context !== undefined && !context.cancelled;
  }

  // --- inside ---

  emit_(type, detail) {
    this.dispatchEvent(new DetailEvent(type, detail));
  }

  setState_(state) {
    if (state === this.state) return;
    this.state = state;
    this.emit_('state', state);
  }

  send_(message) {
    this.socket_.send(JSON.stringify(message));
    this.emit_('sent', message);
  }

  sendOn_(ctx, message) {
    if (this.state !== 'online' || !this.isLive(ctx)) return false;
    this.send_(message);
    return true;
  }

  dial_() {
    clearTimeout(this.retryTimer_);
    this.setState_('connecting');
    let socket;
    try {
      socket = new this.WebSocket_(this.url, SUBPROTOCOL);
    } catch (error) {
      this.drop_(null, String(error));
      return;
    }
    socket.binaryType = 'arraybuffer';
    this.socket_ = socket;
    this.lastHeard_ = Date.now();
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket_) return;
      this.lastHeard_ = Date.now();
      if (typeof data === 'string') this.onText_(data);
      else this.onBinary_(data);
    };
    socket.onclose = (event) => this.drop_(socket, event.reason || `code ${event.code}`);
    socket.onerror = () => {}; // onclose follows
  }

  drop_(socket, reason) {
    if (socket !== this.socket_) return;
    this.socket_ = null;
    clearInterval(this.pingTimer_);
    for (const ctx of [...this.live_.keys()]) this.finish_(ctx, 'disconnected');
    if (!this.wanted_ || !this.reconnect_) {
      this.setState_('offline');
      for (const waiter of this.helloWaiters_.splice(0)) waiter.reject(new Error(`connection lost: ${reason}`));
      return;
    }
    const waitMs = Math.max(backOffMs(this.attempt_++), this.retryAfterMs_);
    this.retryAfterMs_ = 0;
    this.retryTimer_ = setTimeout(() => this.dial_(), waitMs);
    this.setState_('waiting');
  }

  retryNow_() {
    if (this.state === 'waiting') this.dial_();
  }

  finish_(ctx, reason) {
    if (this.live_.delete(ctx)) this.emit_('closed', { ctx, reason });
  }

  checkAlive_() {
    const socket = this.socket_;
    if (Date.now() - this.lastHeard_ > SILENT_LIMIT_MS) {
      this.drop_(socket, 'nothing heard');
      socket.close();
    } else {
      this.ping();
    }
  }

  onText_(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.emit_('error', { code: 'bad_message', message: 'the server sent invalid JSON', local: true });
      return;
    }
    this.emit_('received', message);
    switch (message.type) {
      case 'hello':
        this.hello = message;
        this.attempt_ = 0;
        this.pingTimer_ = setInterval(() => this.checkAlive_(), PING_EVERY_MS);
        this.setState_('online');
        this.emit_('hello', message);
        for (const waiter of this.helloWaiters_.splice(0)) waiter.resolve(message);
        break;
      case 'opened':
      case 'marks':
      case 'flushed':
        if (this.isLive(message.ctx)) this.emit_(message.type, message);
        break;
      case 'done':
      case 'cancelled':
        this.emit_(message.type, message);
        this.finish_(message.ctx, message.type);
        break;
      case 'error':
        // What was under way when its context ended is answered with unknown_context: no news.
        if (message.code === 'unknown_context' && !this.isLive(message.ctx)) {
          this.finish_(message.ctx, 'cancelled');
          break;
        }
        this.emit_('error', message);
        if (message.ctx !== undefined) this.finish_(message.ctx, 'error');
        else if (message.retry_after_ms) this.retryAfterMs_ = message.retry_after_ms;
        break;
      case 'pong':
        this.emit_('pong', message);
        break;
      default: // a newer server may say more
    }
  }

  onBinary_(buffer) {
    let frame;
    try {
      frame = parseAudioFrame(buffer);
    } catch (error) {
      this.emit_('error', { code: 'bad_message', message: error.message, local: true });
      return;
    }
    const context = this.live_.get(frame.ctx);
    if (!context || context.cancelled) {
      this.droppedFrames++;
      return;
    }
    if (frame.seq !== context.nextSeq) {
      this.emit_('error', {
        code: 'bad_message',
        message: `context ${frame.ctx}: frame ${frame.seq}, wanted ${context.nextSeq}`,
        local: true,
      });
    }
    context.nextSeq = frame.seq + 1;
    this.emit_('audio', frame);
  }
}
