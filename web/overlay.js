// Transparent page for OBS and other browser sources: speaks what it is given and shows it as subtitles.
//
// Text comes in the URL's hash (overlay#Hello%20there; changing the hash speaks again), or by postMessage from a page of
// the same origin, or of the one origin named by ?origin=: {type: 'speak', text} and {type: 'stop'}.
// ?voice=, ?lang= and ?speed= set how it sounds, ?decoder= as on the demo page.

import { SonorantClient } from './sonorant.js';
import { SonorantPlayer } from './player.js';

const query = new URLSearchParams(location.search);
const caption = document.getElementById('caption');
const unlock = document.getElementById('unlock');
const MAX_WAITING = 50;
const LINGER_MS = 1500;

const client = new SonorantClient();
// The faint noise (-100 dB) keeps the device awake: OBS may lose the first sound after a long silence.
const player = new SonorantPlayer({ decoder: query.get('decoder') ?? 'auto', floor: 1e-5 });
player.attach(client);

const waiting = []; // texts
let current = null; // {ctx, text, marks, spans, ended}

async function next() {
  if (current || waiting.length === 0 || client.state !== 'online') return;
  current = { ctx: null, text: waiting.shift(), marks: [], spans: null, ended: false };
  const speaking = current;
  await player.start();
  player.context.onstatechange = showUnlock;
  setTimeout(showUnlock, 500); // a page that may play has begun to by then
  try {
    await client.room();
    if (current !== speaking) return;
    speaking.ctx = client.open({
      voice: query.get('voice') ?? 'starter',
      lang: query.get('lang') ?? 'auto',
      speed: Number(query.get('speed') ?? 1),
      format: player.format,
      marks: true,
    });
  } catch {
    waiting.unshift(speaking.text); // the connection went meanwhile
    current = null;
    return;
  }
  client.text(speaking.ctx, speaking.text);
  client.flush(speaking.ctx);
  client.end(speaking.ctx);
  requestAnimationFrame(draw);
}

function speak(text) {
  if (typeof text !== 'string' || text.trim() === '' || waiting.length >= MAX_WAITING) return;
  waiting.push(text);
  next();
}

/** OBS lets a page play at once; an ordinary tab wants a click first. */
function showUnlock() {
  unlock.hidden = player.context.state === 'running';
}

function stop() {
  waiting.length = 0;
  if (!current) return;
  if (current.ctx !== null) client.cancel(current.ctx, player.stop(current.ctx));
  current = null;
  caption.replaceChildren();
}

function draw() {
  if (!current || current.ctx === null) return;
  if (!current.spans) {
    const points = [...current.text];
    const pieces = [];
    let at = 0;
    for (const { in_start: begin, in_end: end, t0_ms: t0 } of current.marks) {
      if (end <= at) continue;
      pieces.push({ text: points.slice(at, end).join(''), t0 });
      at = Math.max(begin, end);
    }
    pieces.push({ text: points.slice(at).join(''), t0: current.marks.length > 0 ? Infinity : 0 });
    current.spans = pieces.map(({ text, t0 }) => {
      const span = document.createElement('span');
      span.textContent = text;
      return { span, t0 };
    });
    caption.replaceChildren(...current.spans.map(({ span }) => span));
  }
  const heardMs = player.playedMs(current.ctx);
  for (const { span, t0 } of current.spans) span.className = current.ended || heardMs >= t0 ? '' : 'ahead';
  requestAnimationFrame(draw);
}

function finish(ctx) {
  if (!current || current.ctx !== ctx || current.ended) return;
  current.ended = true;
  const spoken = current;
  setTimeout(() => {
    if (current !== spoken) return;
    current = null;
    caption.replaceChildren();
    next();
  }, waiting.length > 0 ? 300 : LINGER_MS);
}

client.addEventListener('marks', ({ detail }) => {
  if (current?.ctx !== detail.ctx) return;
  current.marks.push(...detail.items);
  current.spans = null;
});
client.addEventListener('hello', next);
player.addEventListener('ended', ({ detail }) => finish(detail.ctx));

addEventListener('message', ({ origin, data }) => {
  if (origin !== location.origin && origin !== query.get('origin')) return;
  if (data?.type === 'speak') speak(data.text);
  else if (data?.type === 'stop') stop();
});

function speakHash() {
  try {
    speak(decodeURIComponent(location.hash.slice(1)));
  } catch {
    // not text
  }
}
addEventListener('hashchange', speakHash);
unlock.addEventListener('click', () => player.start());

window.sonorantStats = () => ({ ...player.stats(), connection: client.state, waiting: waiting.length, ctx: current?.ctx ?? null });

speakHash();
client.connect();
