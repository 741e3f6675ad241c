// Plays mono samples handed over by postMessage; no SharedArrayBuffer, so it also works in embeds and OBS.
// PlayoutQueue holds the logic and runs in Node for its tests; what follows it is the browser's side.

const LATE_LIMIT_S = 0.5; // audio back within this after running dry was late; a longer gap is a pause in the text
const CUSHION_STEP_S = 0.02;
const CUSHION_MAX_S = 0.4;
const GRACE_S = 0.1; // with less than a cushion queued, start this long after the cushion's time has passed
const FADE_OUT_S = 0.008; // on clear
const FADE_IN_S = 0.003; // after running dry
const RELEASE = 0.97; // per sample: the last value decays instead of stepping to zero
const LOUD = 1e-4; // -80 dBFS
const AUDIBLE = 1e-3; // -60 dBFS

/**
 * Samples waiting to be played, by context. Contexts play one after another in the order of their first samples.
 * A context starts once its cushion is full, its end is known, or GRACE_S has passed, and starts anew after running dry.
 */
export class PlayoutQueue {
  constructor(sampleRate, cushionMs = 60) {
    this.rate = sampleRate;
    this.minCushion = Math.round((cushionMs / 1000) * sampleRate);
    this.cushion = this.minCushion;
    this.contexts = new Map(); // ctx -> Context, see context_
    this.queued = 0; // samples of all contexts
    this.current = null; // the ctx now playing, or the last that did
    this.playing = false;
    this.frame = 0; // the next sample to render, on the owner's clock
    this.misses = 0;
    this.lastLoudFrame = -1;
    this.hold = 0; // last sample played
    this.fadeIn = 0; // samples of it left
    this.tail = null; // faded rest of a cleared context
    this.tailAt = 0;
    this.events = []; // drained by the owner
  }

  context_(ctx) {
    let context = this.contexts.get(ctx);
    if (!context) {
      context = {
        ctx,
        chunks: [],
        offset: 0, // into chunks[0]
        queued: 0, // samples
        played: 0, // samples
        ended: false, // nothing more will be pushed
        finished: false, // and all of it was played or dropped
        started: false,
        audible: false,
        waitingSince: -1,
        dryAt: -1,
      };
      this.contexts.set(ctx, context);
      for (const old of this.contexts.values()) {
        if (this.contexts.size <= 32) break;
        if (old.finished) this.contexts.delete(old.ctx);
      }
    }
    return context;
  }

  push(ctx, samples) {
    const context = this.context_(ctx);
    if (context.ended || samples.length === 0) return;
    if (context.dryAt >= 0) {
      if (this.frame - context.dryAt < LATE_LIMIT_S * this.rate) {
        this.misses++;
        this.cushion = Math.min(this.cushion + CUSHION_STEP_S * this.rate, CUSHION_MAX_S * this.rate);
      }
      context.dryAt = -1;
    }
    if (context.queued === 0) context.waitingSince = this.frame;
    context.chunks.push(samples);
    context.queued += samples.length;
    this.queued += samples.length;
  }

  /** No more samples of this context will come. */
  end(ctx) {
    const context = this.context_(ctx);
    context.ended = true;
    if (context.queued === 0) this.finish_(context);
  }

  /** Drops everything of the context; what is being played fades out. Later pushes of it are ignored. */
  clear(ctx) {
    const context = this.context_(ctx);
    if (this.playing && this.current === ctx) {
      const n = Math.min(Math.round(FADE_OUT_S * this.rate), context.queued);
      this.tail = new Float32Array(n);
      this.tailAt = 0;
      this.take_(context, this.tail, 0, n);
      for (let i = 0; i < n; i++) this.tail[i] *= 0.5 + 0.5 * Math.cos((Math.PI * (i + 1)) / n);
    }
    this.queued -= context.queued;
    context.queued = 0;
    context.chunks = [];
    context.ended = true;
    this.finish_(context);
  }

  /** Fills `out` with the next samples; silence when there is nothing to play. */
  render(out) {
    let at = 0;
    while (at < out.length) {
      if (this.tail) {
        const n = Math.min(out.length - at, this.tail.length - this.tailAt);
        out.set(this.tail.subarray(this.tailAt, this.tailAt + n), at);
        this.tailAt += n;
        at += n;
        if (this.tailAt === this.tail.length) this.tail = null;
        this.hold = 0;
      } else if (this.playing || this.mayStart_(this.frame + at)) {
        at = this.play_(out, at);
      } else {
        for (; at < out.length; at++) {
          this.hold *= RELEASE;
          out[at] = this.hold;
        }
      }
    }
    for (let i = 0; i < out.length; i++) {
      if (Math.abs(out[i]) > LOUD) this.lastLoudFrame = this.frame + i;
    }
    this.frame += out.length;
  }

  mayStart_(now) {
    let context = this.contexts.get(this.current);
    if (!context || context.queued === 0) {
      for (context of this.contexts.values()) if (context.queued > 0) break;
    }
    if (!context || context.queued === 0) return false;
    const waitLimit = this.cushion + GRACE_S * this.rate;
    if (!context.ended && context.queued < this.cushion && now - context.waitingSince < waitLimit) return false;
    this.current = context.ctx;
    this.playing = true;
    if (context.started) {
      this.fadeIn = Math.round(FADE_IN_S * this.rate);
    } else {
      context.started = true;
      this.events.push({ type: 'started', ctx: context.ctx, frame: now });
    }
    return true;
  }

  play_(out, begin) {
    const context = this.contexts.get(this.current);
    const end = begin + Math.min(out.length - begin, context.queued);
    this.take_(context, out, begin, end - begin);
    const fadeSamples = Math.round(FADE_IN_S * this.rate);
    for (let i = begin; i < end; i++) {
      if (this.fadeIn > 0) out[i] *= 1 - this.fadeIn-- / fadeSamples;
      if (!context.audible && Math.abs(out[i]) > AUDIBLE) {
        context.audible = true;
        this.events.push({ type: 'audible', ctx: context.ctx, frame: this.frame + i });
      }
    }
    this.hold = out[end - 1];
    if (context.queued === 0) {
      this.playing = false;
      if (context.ended) this.finish_(context);
      else context.dryAt = this.frame + end;
    }
    return end;
  }

  /** Moves n samples of the context, which holds at least n, to out[begin...]. */
  take_(context, out, begin, n) {
    let left = n;
    while (left > 0) {
      const samples = context.chunks[0];
      const part = Math.min(left, samples.length - context.offset);
      out.set(samples.subarray(context.offset, context.offset + part), begin + n - left);
      left -= part;
      context.offset += part;
      if (context.offset === samples.length) {
        context.chunks.shift();
        context.offset = 0;
      }
    }
    context.played += n;
    context.queued -= n;
    this.queued -= n;
  }

  finish_(context) {
    if (context.finished) return;
    context.finished = true;
    if (this.current === context.ctx) {
      this.playing = false;
      this.fadeIn = 0;
      // An utterance at a time, the cushion shrinks back.
      this.cushion = Math.max(this.minCushion, this.cushion - CUSHION_STEP_S * 0.5 * this.rate);
    }
    this.events.push({ type: 'ended', ctx: context.ctx, frame: this.frame, played: context.played });
  }
}

const TICK_SAMPLES = 1024; // 21 ms at 48 kHz

/** A PlayoutQueue under command of messages, which reports what it plays. Either of the two hosts below it drives it. */
export class Playout {
  /** options: {cushionMs, floor: amplitude of the noise that keeps an output device awake, 0 for none} */
  constructor(sampleRate, { cushionMs, floor }, report) {
    this.queue = new PlayoutQueue(sampleRate, cushionMs);
    this.floor = floor;
    this.report = report;
    this.sumSquares = 0;
    this.peak = 0;
    this.samples = 0;
  }

  receive({ type, ctx, samples }) {
    if (type === 'push') this.queue.push(ctx, samples);
    else if (type === 'end') this.queue.end(ctx);
    else if (type === 'clear') this.queue.clear(ctx);
  }

  /** `frame` is the place of out[0] on the audio context's clock. */
  process(frame, out) {
    const queue = this.queue;
    queue.frame = frame;
    queue.render(out);
    for (const x of out) {
      this.sumSquares += x * x;
      this.peak = Math.max(this.peak, Math.abs(x));
    }
    this.samples += out.length;
    if (this.floor > 0) for (let i = 0; i < out.length; i++) out[i] += this.floor * (Math.random() - 0.5);
    if (this.samples >= TICK_SAMPLES || queue.events.length > 0) this.tick();
  }

  tick() {
    const queue = this.queue;
    const context = queue.contexts.get(queue.current);
    this.report({
      frame: queue.frame,
      ctx: queue.current,
      played: context ? context.played : 0,
      queued: queue.queued,
      playing: queue.playing,
      rms: Math.sqrt(this.sumSquares / this.samples),
      peak: this.peak,
      cushion: queue.cushion,
      misses: queue.misses,
      lastLoudFrame: queue.lastLoudFrame,
      events: queue.events.splice(0),
    });
    this.sumSquares = 0;
    this.peak = 0;
    this.samples = 0;
  }
}

/**
 * The same on the main thread, where there is no AudioWorklet: browsers withhold it from pages served over plain HTTP by
 * another machine. ScriptProcessorNode is deprecated and waits for the page, but it plays.
 */
export class MainThreadPlayout {
  constructor(context, options) {
    this.node = context.createScriptProcessor(1024, 0, 1);
    const port = { postMessage: (message) => playout.receive(message), onmessage: null };
    const playout = new Playout(context.sampleRate, options, (data) => port.onmessage?.({ data }));
    this.node.onaudioprocess = ({ playbackTime, outputBuffer }) => {
      playout.process(Math.round(playbackTime * context.sampleRate), outputBuffer.getChannelData(0));
    };
    this.port = port;
  }

  connect(destination) {
    this.node.connect(destination);
  }
}

if (typeof globalThis.registerProcessor === 'function') {
  /* global currentFrame, sampleRate, registerProcessor, AudioWorkletProcessor */
  class SonorantPlayout extends AudioWorkletProcessor {
    constructor({ processorOptions }) {
      super();
      this.playout = new Playout(sampleRate, processorOptions, (tick) => this.port.postMessage(tick));
      this.port.onmessage = ({ data }) => this.playout.receive(data);
    }

    process(inputs, [channels]) {
      this.playout.process(currentFrame, channels[0]);
      for (let c = 1; c < channels.length; c++) channels[c].set(channels[0]);
      return true;
    }
  }

  registerProcessor('sonorant-playout', SonorantPlayout);
}
