// Worker that decodes bare Opus packets with libopus in WebAssembly, for browsers without WebCodecs.
// In: {type: 'open' | 'packet' | 'finish' | 'close', id, packet?}. Out: {id, samples} in packet order, {id, finished: true}.

/* global importScripts */
importScripts('vendor/opus-decoder.min.js');
const { OpusDecoder } = globalThis['opus-decoder'];

// One made ahead of need: starting a decoder takes longer than decoding a second of sound.
let spare = make();

function make() {
  return new OpusDecoder({ channels: 1, sampleRate: 48000, preSkip: 0 });
}

const decoders = new Map(); // id -> {decoder, ready, tail: promise chain that keeps packets in order}

self.onmessage = ({ data: { type, id, packet } }) => {
  if (type === 'open') {
    const decoder = spare;
    decoders.set(id, { decoder, tail: decoder.ready });
    decoder.ready.then(() => (spare = make()), (error) => self.postMessage({ id, error: String(error) }));
    return;
  }
  const entry = decoders.get(id);
  if (!entry) return;
  entry.tail = entry.tail.then(() => {
    if (type === 'packet') {
      // A broken packet gives no samples; the player fills its place with silence.
      const samples = entry.decoder.decodeFrame(packet).channelData[0];
      self.postMessage({ id, samples }, [samples.buffer]);
    } else if (type === 'finish') {
      self.postMessage({ id, finished: true });
    } else if (type === 'close') {
      decoders.delete(id);
      entry.decoder.free();
    }
  });
};
