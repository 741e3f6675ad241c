// Audio frames to sound: decode, trim the pre-skip, hand the samples to the worklet.
//
//   const player = new SonorantPlayer();
//   await player.start();                 // inside a user gesture, unless the page may play without one
//   player.attach(client);
//   client.open({ format: player.format, ... });

import { KIND_OPUS } from './sonorant.js';
import { MainThreadPlayout } from './worklet.js';

const OPUS_RATE = 48000;
// 20 ms of silence, mono, full band: what a decoder must be able to read (RFC 6716, section 3.1).
const SILENT_PACKET = Uint8Array.of(0xf8, 0xff, 0xfe);

/** s16le bytes to floats in [-1, 1). */
export function pcmToFloat(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(bytes.byteLength >> 1);
  for (let i = 0; i < out.length; i++) out[i] = view.getInt16(2 * i, true) / 32768;
  return out;
}

/** Continuous change of rate by cubic (Catmull-Rom) interpolation; its state runs across pieces, so there are no seams. */
export class Resampler {
  constructor(fromHz, toHz) {
    this.step = fromHz / toHz;
    this.past = [0, 0, 0]; // the three samples before the next piece
    this.at = 0; // of the next output, counted from past[2]
  }

  process(samples) {
    if (this.step === 1) return samples;
    const all = new Float32Array(samples.length + 3);
    all.set(this.past);
    all.set(samples, 3);
    const out = [];
    // Output lies between all[i + 1] and all[i + 2].
    for (; Math.floor(this.at) + 3 < all.length; this.at += this.step) {
      const i = Math.floor(this.at);
      const t = this.at - i;
      const [a, b, c, d] = [all[i], all[i + 1], all[i + 2], all[i + 3]];
      out.push(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))));
    }
    this.at -= samples.length;
    this.past = all.slice(-3);
    return Float32Array.from(out);
  }
}

// A decoder serves one context: decode(bytes), finish() -> promise once everything is out, close(). It calls
// sink(samples) in packet order, with empty samples for a packet it could not read.

class PcmDecoder {
  constructor(sink) {
    this.sink = sink;
  }
  decode(bytes) {
    this.sink(pcmToFloat(bytes));
  }
  async finish() {}
  close() {}
}

class WebCodecsDecoder {
  static config = { codec: 'opus', sampleRate: OPUS_RATE, numberOfChannels: 1 }; // no description: bare packets

  constructor(sink) {
    this.sink = sink;
    this.timestampUs = 0;
    this.make();
  }

  make() {
    const decoder = new AudioDecoder({
      output: (data) => {
        const samples = new Float32Array(data.numberOfFrames);
        data.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
        data.close();
        if (decoder === this.decoder) this.sink(samples);
      },
      error: () => {
        if (decoder !== this.decoder) return;
        this.sink(new Float32Array(0));
        this.make();
      },
    });
    this.decoder = decoder;
    decoder.configure(WebCodecsDecoder.config);
  }

  decode(bytes) {
    const timestamp = this.timestampUs;
    this.timestampUs += 20000;
    this.decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp, data: bytes }));
  }

  async finish() {
    await this.decoder?.flush().catch(() => {});
  }

  close() {
    const decoder = this.decoder;
    this.decoder = null;
    if (decoder && decoder.state !== 'closed') decoder.close();
  }
}

class WasmDecoder {
  static worker = null;
  static sinks = new Map();
  static nextId = 1;

  constructor(sink) {
    if (!WasmDecoder.worker) {
      WasmDecoder.worker = new Worker(new URL('wasm_decoder.js', import.meta.url));
      WasmDecoder.worker.onmessage = ({ data }) => WasmDecoder.sinks.get(data.id)?.receive(data);
    }
    this.id = WasmDecoder.nextId++;
    this.sink = sink;
    this.finished = [];
    WasmDecoder.sinks.set(this.id, this);
    WasmDecoder.worker.postMessage({ type: 'open', id: this.id });
  }

  receive({ samples, finished, error }) {
    if (finished) this.finished.shift()?.();
    else if (error) console.error(`WASM Opus decoder: ${error}`);
    else this.sink(samples);
  }

  decode(bytes) {
    WasmDecoder.worker.postMessage({ type: 'packet', id: this.id, packet: bytes });
  }

  finish() {
    return new Promise((resolve) => {
      this.finished.push(resolve);
      WasmDecoder.worker.postMessage({ type: 'finish', id: this.id });
    });
  }

  close() {
    WasmDecoder.sinks.delete(this.id);
    WasmDecoder.worker.postMessage({ type: 'close', id: this.id });
  }
}

const DECODERS = { webcodecs: WebCodecsDecoder, wasm: WasmDecoder, pcm: PcmDecoder };

/** True when the decoder turns a silent packet into its 960 samples within two seconds. */
async function works(Decoder) {
  let samples = 0;
  let decoder;
  try {
    decoder = new Decoder((piece) => (samples += piece.length));
    decoder.decode(SILENT_PACKET);
    await Promise.race([decoder.finish(), new Promise((resolve) => setTimeout(resolve, 2000))]);
  } catch {
    return false;
  } finally {
    decoder?.close();
  }
  return samples === OPUS_RATE / 50;
}

/** 'webcodecs', 'wasm' or 'pcm': the first that really decodes here, or the one asked for. */
export async function chooseDecoder(wanted = 'auto') {
  if (wanted in DECODERS) {
    if (wanted !== 'pcm') await works(DECODERS[wanted]); // loads it now rather than at the first packet
    return wanted;
  }
  if (typeof AudioDecoder === 'function') {
    const { supported } = await AudioDecoder.isConfigSupported(WebCodecsDecoder.config).catch(() => ({}));
    if (supported && (await works(WebCodecsDecoder))) return 'webcodecs';
  }
  if (typeof WebAssembly === 'object' && typeof Worker === 'function' && (await works(WasmDecoder))) return 'wasm';
  return 'pcm';
}

class DetailEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

/**
 * Events carry `detail`:
 *   started, audible, ended   {ctx, atMs}: `atMs` is on performance.now()'s clock, when the sample leaves the device
 *   samples                   {ctx, samples, rate}: decoded audio, before it is played
 *   tick                      what the worklet measured, about every 21 ms; see stats()
 */
export class SonorantPlayer extends EventTarget {
  /** options: {decoder: 'auto' | 'webcodecs' | 'wasm' | 'pcm', cushionMs = 60, floor = 0 (amplitude of a keep-awake noise)} */
  constructor(options = {}) {
    super();
    this.options = { decoder: 'auto', cushionMs: 60, floor: 0, ...options };
    this.decoder = null; // name, once chosen
    this.context = null;
    this.node = null;
    this.contexts_ = new Map(); // ctx -> {rate, skip, decoder, resampler, frames, samples, ...}
    this.tick_ = null;
    this.starting_ = null;
    this.peakRms_ = 0;
    this.cancelFrame_ = -1;
    this.lateFrames_ = 0;
    this.badPackets_ = 0;
  }

  /** Makes the audio graph on the first call; resumes it on later ones. Call it from user gestures. */
  start() {
    this.starting_ ??= this.build_();
    if (this.context && this.context.state !== 'running') this.context.resume().catch(() => {});
    return this.starting_;
  }

  async build_() {
    try {
      this.context = new AudioContext({ sampleRate: OPUS_RATE, latencyHint: 'interactive' });
    } catch {
      this.context = new AudioContext(); // this device has a fixed rate: Resampler does the rest
    }
    this.context.resume().catch(() => {});
    const worklet = this.context.audioWorklet;
    const options = { cushionMs: this.options.cushionMs, floor: this.options.floor };
    const [decoder] = await Promise.all([
      chooseDecoder(this.options.decoder),
      worklet?.addModule(new URL('worklet.js', import.meta.url)),
    ]);
    this.decoder = decoder;
    if (worklet) {
      this.node = new AudioWorkletNode(this.context, 'sonorant-playout', {
        numberOfInputs: 0,
        outputChannelCount: [1],
        processorOptions: options,
      });
    } else {
      this.node = new MainThreadPlayout(this.context, options);
    }
    this.node.port.onmessage = ({ data }) => this.onTick_(data);
    this.node.connect(this.context.destination);
    // A phone may take the device away while the page is hidden.
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.start().catch(() => {});
    });
  }

  /** The `format` field for `open`. */
  get format() {
    return { codec: this.decoder === 'pcm' ? 'pcm_s16le' : 'opus', rate: OPUS_RATE };
  }

  /** Plays what this client receives. */
  attach(client) {
    client.addEventListener('opened', ({ detail }) => this.open(detail));
    client.addEventListener('audio', ({ detail }) => this.push(detail));
    client.addEventListener('closed', ({ detail }) => {
      if (detail.reason !== 'cancelled') this.end(detail.ctx);
      else this.stop(detail.ctx);
    });
  }

  /** Prepares for the context of an `opened` message. */
  open({ ctx, rate, pre_skip: preSkip }) {
    if (this.contexts_.has(ctx)) return;
    const state = {
      ctx,
      announcedRate: rate,
      preSkip,
      skip: 0, // decoded samples still to drop
      rate,
      kind: 0, // of the frames `decoder` is for
      decoder: null,
      resampler: null,
      frames: 0,
      samples: 0, // after the pre-skip, at state.rate
      frameSamples: 0, // of the last packet that could be read
      played: 0, // at the audio context's rate
      over: false,
    };
    this.contexts_.set(ctx, state);
    if (this.decoder && this.decoder !== 'pcm') this.prepare_(state, KIND_OPUS); // before the first packet, to save its time
    for (const [old, { over }] of this.contexts_) {
      if (this.contexts_.size <= 32) break;
      if (over) this.contexts_.delete(old);
    }
  }

  /** Takes one parsed audio frame. */
  push(frame) {
    const state = this.contexts_.get(frame.ctx);
    if (!state || state.over) {
      this.lateFrames_++;
      return;
    }
    if (state.kind !== frame.kind) this.prepare_(state, frame.kind);
    state.frames++;
    state.decoder.decode(frame.payload);
  }

  prepare_(state, kind) {
    const opus = kind === KIND_OPUS;
    state.kind = kind;
    state.decoder?.close();
    state.rate = opus ? OPUS_RATE : state.announcedRate; // Opus decodes to 48 kHz whatever the encoder was given
    state.skip = Math.round((state.preSkip * state.rate) / state.announcedRate);
    state.frameSamples = state.rate / 50;
    state.resampler = new Resampler(state.rate, this.context.sampleRate);
    const name = opus ? (this.decoder === 'pcm' ? 'wasm' : this.decoder) : 'pcm';
    state.decoder = new DECODERS[name]((samples) => this.onSamples_(state, samples));
  }

  onSamples_(state, decoded) {
    if (state.over) return;
    if (decoded.length === 0) this.badPackets_++;
    let samples = decoded.length === 0 ? new Float32Array(state.frameSamples) : decoded;
    state.frameSamples = samples.length;
    if (state.skip > 0) {
      const n = Math.min(state.skip, samples.length);
      state.skip -= n;
      samples = samples.slice(n);
    }
    state.samples += samples.length;
    this.emit_('samples', { ctx: state.ctx, samples, rate: state.rate });
    const out = state.resampler.process(samples);
    this.node.port.postMessage({ type: 'push', ctx: state.ctx, samples: out }, [out.buffer]);
  }

  /** No more frames of this context; what is queued still plays. */
  async end(ctx) {
    const state = this.contexts_.get(ctx);
    if (!state) {
      this.emit_('ended', { ctx, atMs: performance.now() }); // it failed before it was opened
      return;
    }
    if (state.over) return;
    await state.decoder?.finish();
    if (state.over) return;
    state.over = true;
    state.decoder?.close();
    this.node.port.postMessage({ type: 'end', ctx });
  }

  /** Fades out within 8 ms, drops the rest and returns played_ms for the protocol's `cancel`. */
  stop(ctx) {
    const playedMs = Math.round(this.playedMs(ctx));
    const state = this.contexts_.get(ctx);
    if (!state || state.stopped) return playedMs;
    state.stopped = true;
    state.over = true;
    state.decoder?.close();
    if (this.node) {
      this.node.port.postMessage({ type: 'clear', ctx });
      this.cancelFrame_ = Math.round(this.context.currentTime * this.context.sampleRate);
    }
    return playedMs;
  }

  /** Heard so far of this context: the worklet's sample counter, less what is on its way to the device. */
  playedMs(ctx) {
    const state = this.contexts_.get(ctx);
    if (!state || !this.context) return 0;
    let samples = state.played;
    const tick = this.tick_;
    if (tick && tick.ctx === ctx && tick.playing) {
      const since = this.context.currentTime * this.context.sampleRate - tick.frame;
      samples += Math.max(0, Math.min(since, tick.queued));
    }
    return Math.max(0, (1000 * samples) / this.context.sampleRate - (samples > 0 ? 1000 * this.latencyS_() : 0));
  }

  /** Decoded and not yet played, all contexts. */
  bufferedMs() {
    return this.tick_ ? (1000 * this.tick_.queued) / this.context.sampleRate : 0;
  }

  /** A snapshot for displays and tests. Frames are samples on the audio context's clock; rms and peak cover 21 ms. */
  stats() {
    const tick = this.tick_;
    return {
      decoder: this.decoder,
      contextState: this.context?.state ?? 'none',
      sampleRate: this.context?.sampleRate ?? 0,
      ctx: tick?.ctx ?? null,
      playing: tick?.playing ?? false,
      playedSamples: tick?.played ?? 0,
      bufferedMs: this.bufferedMs(),
      cushionMs: tick ? (1000 * tick.cushion) / this.context.sampleRate : this.options.cushionMs,
      misses: tick?.misses ?? 0,
      worklet: this.node !== null && !(this.node instanceof MainThreadPlayout),
      rms: tick?.rms ?? 0,
      peak: tick?.peak ?? 0,
      peakRms: this.peakRms_,
      frame: tick?.frame ?? 0,
      lastLoudFrame: tick?.lastLoudFrame ?? -1,
      cancelFrame: this.cancelFrame_,
      lateFrames: this.lateFrames_,
      badPackets: this.badPackets_,
      contexts: [...this.contexts_.values()].map(({ ctx, frames, samples, rate, over, played }) => {
        return { ctx, frames, samples, rate, over, played };
      }),
    };
  }

  latencyS_() {
    return this.context.outputLatency || this.context.baseLatency || 0;
  }

  emit_(type, detail) {
    this.dispatchEvent(new DetailEvent(type, detail));
  }

  onTick_(tick) {
    this.tick_ = tick;
    this.peakRms_ = Math.max(this.peakRms_, tick.rms);
    const state = this.contexts_.get(tick.ctx);
    if (state) state.played = tick.played;
    for (const event of tick.events) {
      if (event.type === 'ended') {
        const ended = this.contexts_.get(event.ctx);
        if (ended) ended.played = event.played;
      }
      this.emit_(event.type, { ctx: event.ctx, atMs: this.frameToMs_(event.frame) });
    }
    this.emit_('tick', tick);
  }

  frameToMs_(frame) {
    const seconds = frame / this.context.sampleRate;
    const now = this.context.getOutputTimestamp?.();
    if (now && now.performanceTime > 0) return now.performanceTime + 1000 * (seconds - now.contextTime);
    return performance.now() + 1000 * (seconds - this.context.currentTime + this.latencyS_());
  }
}
