// The demo page: text in, sound and figures out. Protocol in sonorant.js, sound in player.js.
// ?decoder=webcodecs|wasm|pcm forces a decoder; window.sonorantStats() is for tests and the curious.

import { SonorantClient } from './sonorant.js';
import { SonorantPlayer } from './player.js';

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');

const client = new SonorantClient();
const player = new SonorantPlayer({ decoder: query.get('decoder') ?? 'auto' });
player.attach(client);

/** The utterance shown: the last one opened. */
let shown = null;

function makeUtterance(ctx, live) {
  return {
    ctx,
    live,
    text: '', // all text sent
    marks: [],
    envelope: [], // peak per ENVELOPE_MS of decoded audio
    partial: { peak: 0, samples: 0 },
    lastSentAt: 0, // text or flush, whichever was last before the first packet
    firstPacketMs: null,
    firstSoundMs: null,
    sentence: null, // the spans of the caption
    over: false, // the server has said everything
    ended: false, // and it was played, or dropped
  };
}

function say(message, bad = false) {
  $('status').textContent = message;
  $('status').classList.toggle('bad', bad);
}

// --- speaking ---

async function begin(live) {
  try {
    await player.start();
  } catch (error) {
    say(`This browser cannot play: ${error.message}`, true);
    return null;
  }
  $('decoder').textContent = { webcodecs: 'WebCodecs', wasm: 'WebAssembly', pcm: 'PCM' }[player.decoder];
  stop();
  await client.room().catch(() => {});
  if (client.state !== 'online') {
    say('Not connected. The page keeps trying.', true);
    return null;
  }
  const ctx = client.open({
    voice: $('voice').value,
    lang: $('lang').value,
    format: player.format,
    marks: true,
    speed: Number($('speed').value),
  });
  shown = makeUtterance(ctx, live);
  for (const id of ['first-packet', 'first-sound', 'lead', 'played', 'rtf']) $(id).textContent = '–';
  return shown;
}

function sendText(utterance, text) {
  if (text === '' || !client.text(utterance.ctx, text)) return;
  utterance.text += text;
  utterance.sentence = null;
  if (utterance.firstPacketMs === null) utterance.lastSentAt = performance.now();
  drawSoon();
}

function flush(utterance) {
  if (client.flush(utterance.ctx) && utterance.firstPacketMs === null) utterance.lastSentAt = performance.now();
}

async function speak() {
  if (shown && shown.live && client.isLive(shown.ctx) && typedRest() !== '') {
    sendTyped(true);
    flush(shown);
    client.end(shown.ctx);
    return;
  }
  const text = $('text').value;
  if (text.trim() === '') {
    say('There is no text to speak.');
    $('text').focus();
    return;
  }
  const utterance = await begin(false);
  if (!utterance) return;
  sendText(utterance, text);
  flush(utterance);
  client.end(utterance.ctx);
  typed = text;
  say('Speaking.');
}

function stop() {
  clearTimeout(idleTimer);
  if (!shown || shown.ended) return false;
  const playedMs = player.stop(shown.ctx);
  client.cancel(shown.ctx, playedMs);
  shown.over = true;
  shown.ended = true;
  typed = $('text').value;
  drawSoon();
  return true;
}

// --- speaking as one types ---
// The word being written is held back until a space (or a pause) follows, so that correcting it costs nothing.
// What was sent cannot be unsaid: after a change further back, only what is typed from there on is spoken.

const TYPING_PAUSE_MS = 1500;
let typed = ''; // the part of the box that was sent, or is not to be spoken
let idleTimer = null;
let opening = null; // begin() in progress

function typedRest() {
  const value = $('text').value;
  if (!value.startsWith(typed)) typed = value.slice(0, wordEnd(value));
  return value.slice(typed.length);
}

/** Length up to which no word is unfinished: the last space, or the last letter of a script without spaces. */
function wordEnd(text) {
  const found = /^.*[\s\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/su.exec(text);
  return found ? found[0].length : 0;
}

function sendTyped(all) {
  const rest = typedRest();
  const ready = all ? rest : rest.slice(0, wordEnd(rest));
  sendText(shown, ready);
  typed += ready;
}

async function onTyping(event) {
  if (!$('live').checked || event.isComposing) return;
  clearTimeout(idleTimer);
  const rest = typedRest();
  if (rest === '') return;
  if (!shown || !shown.live || !client.isLive(shown.ctx)) {
    if (wordEnd(rest) > 0 && !opening) {
      const kept = typed;
      opening = begin(true);
      const utterance = await opening;
      opening = null;
      if (!utterance) return;
      typed = kept; // begin() ends the utterance before, which marks the whole box as said
      say('Speaking as you type.');
    }
  }
  if (opening) return;
  if (shown && shown.live && client.isLive(shown.ctx)) sendTyped(false);
  idleTimer = setTimeout(onTypingPause, TYPING_PAUSE_MS);
}

async function onTypingPause() {
  if (!$('live').checked || typedRest() === '' && !shown?.live) return;
  const kept = typed;
  if (!shown || !shown.live || !client.isLive(shown.ctx)) {
    if (typedRest().trim() === '' || !(await begin(true))) return;
    typed = kept;
  }
  sendTyped(true);
  flush(shown);
}

// --- what comes back ---

const ENVELOPE_MS = 10;

client.addEventListener('audio', ({ detail: frame }) => {
  logAudio(frame);
  if (!shown || frame.ctx !== shown.ctx || shown.firstPacketMs !== null) return;
  shown.firstPacketMs = performance.now() - shown.lastSentAt;
  $('first-packet').textContent = `${Math.round(shown.firstPacketMs)} ms`;
});

client.addEventListener('marks', ({ detail }) => {
  if (!shown || detail.ctx !== shown.ctx) return;
  shown.marks.push(...detail.items);
  shown.sentence = null;
});

client.addEventListener('done', ({ detail }) => {
  if (!shown || detail.ctx !== shown.ctx) return;
  const rtf = detail.metrics?.rtf;
  $('rtf').textContent = typeof rtf === 'number' ? rtf.toFixed(2) : '–';
});

client.addEventListener('closed', ({ detail }) => {
  if (!shown || detail.ctx !== shown.ctx) return;
  shown.over = true;
  if (detail.reason === 'disconnected') say('The connection was lost while speaking.', true);
});

client.addEventListener('error', ({ detail }) => {
  const retry = detail.retry_after_ms ? ` Try again in ${Math.ceil(detail.retry_after_ms / 1000)} s.` : '';
  say(`${detail.message ?? 'Error'} (${detail.code}).${retry}`, true);
});

player.addEventListener('samples', ({ detail: { ctx, samples, rate } }) => {
  if (!shown || ctx !== shown.ctx) return;
  const { partial, envelope } = shown;
  const perBin = (rate * ENVELOPE_MS) / 1000;
  for (const x of samples) {
    partial.peak = Math.max(partial.peak, Math.abs(x));
    if (++partial.samples >= perBin) {
      envelope.push(partial.peak);
      partial.peak = 0;
      partial.samples = 0;
    }
  }
  drawSoon();
});

player.addEventListener('audible', ({ detail: { ctx, atMs } }) => {
  if (!shown || ctx !== shown.ctx) return;
  shown.firstSoundMs = atMs - shown.lastSentAt;
  $('first-sound').textContent = `${Math.round(shown.firstSoundMs)} ms`;
});

player.addEventListener('ended', ({ detail: { ctx } }) => {
  if (!shown || ctx !== shown.ctx || shown.ended) return;
  shown.ended = true;
  if (!$('status').classList.contains('bad')) say(`Finished after ${seconds(player.playedMs(ctx))} of speech.`);
});

// --- voices and languages ---

function fill(select, entries) {
  const before = select.value;
  select.replaceChildren(...entries.map(([value, label]) => new Option(label, value)));
  if (entries.some(([value]) => value === before)) select.value = before;
}

function languageName(code) {
  try {
    return new Intl.DisplayNames(['en'], { type: 'language' }).of(code) ?? code;
  } catch {
    return code;
  }
}

function fillLanguages() {
  const voice = client.hello?.voices?.find(({ id }) => id === $('voice').value);
  fill($('lang'), [['auto', 'Detect'], ...(voice?.langs ?? []).map((code) => [code, languageName(code)])]);
}

client.addEventListener('hello', ({ detail }) => {
  const voices = detail.voices ?? [];
  if (voices.length > 0) fill($('voice'), voices.map(({ id, name }) => [id, name || id]));
  fillLanguages();
});

client.addEventListener('state', ({ detail: state }) => {
  $('connection').dataset.state = state;
  $('connection-text').textContent = {
    offline: 'Not connected',
    connecting: 'Connecting',
    online: 'Connected',
    waiting: 'Connection lost, trying again',
  }[state];
});

// --- drawing ---

const wave = $('wave');
const SPAN_MS = 8000; // across the canvas
const HEAD = 0.4; // where the playhead stands
let drawing = false;
let meterShownAt = 0;

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function draw() {
  drawing = false;
  const heardMs = shown ? player.playedMs(shown.ctx) : 0;
  drawWave(heardMs);
  drawCaption(heardMs);
  drawLevel();
  if (shown) {
    $('lead').textContent = shown.ended ? '0 ms' : `${Math.round(player.bufferedMs())} ms`;
    $('played').textContent = seconds(heardMs);
    $('misses').textContent = player.stats().misses;
  }
  const quiet = player.stats().rms < 1e-4;
  if ((!shown || shown.ended) && quiet) return;
  if (reducedMotion.matches) {
    drawing = true;
    setTimeout(draw, 250);
  } else {
    drawSoon();
  }
}

function drawWave(heardMs) {
  const scale = devicePixelRatio || 1;
  const width = Math.round(wave.clientWidth * scale);
  const height = Math.round(wave.clientHeight * scale);
  if (wave.width !== width || wave.height !== height) {
    wave.width = width;
    wave.height = height;
  }
  const colours = getComputedStyle(wave);
  const g = wave.getContext('2d');
  g.clearRect(0, 0, width, height);
  const middle = height / 2;
  g.fillStyle = colours.getPropertyValue('--line');
  g.fillRect(0, middle - scale / 2, width, scale);
  // Scrolling under a fixed playhead; with reduced motion a still page with a moving one.
  const still = reducedMotion.matches;
  const leftMs = still ? Math.floor(heardMs / SPAN_MS) * SPAN_MS : heardMs - HEAD * SPAN_MS;
  const bar = 3 * scale;
  const step = 5 * scale;
  const msPerStep = (SPAN_MS * step) / width;
  const played = colours.getPropertyValue('--wave');
  const ahead = colours.getPropertyValue('--wave-ahead');
  const envelope = shown?.envelope ?? [];
  const firstBar = Math.floor(leftMs / msPerStep);
  for (let i = firstBar; i <= firstBar + width / step + 1; i++) {
    const from = Math.max(0, Math.floor((i * msPerStep) / ENVELOPE_MS));
    const to = Math.min(envelope.length, Math.ceil(((i + 1) * msPerStep) / ENVELOPE_MS));
    let peak = 0;
    for (let k = from; k < to; k++) peak = Math.max(peak, envelope[k]);
    if (to <= from) continue;
    const atMs = i * msPerStep;
    if (shown.ended && atMs > heardMs) break; // what was dropped
    const half = Math.max(scale, Math.min(1, peak * 1.4) * (middle - 2 * scale));
    g.fillStyle = atMs <= heardMs ? played : ahead;
    g.fillRect(((atMs - leftMs) / SPAN_MS) * width, middle - half, bar, 2 * half);
  }
  g.fillStyle = colours.getPropertyValue('--head');
  g.fillRect(((heardMs - leftMs) / SPAN_MS) * width, 0, Math.max(1, scale), height);
}

/** Splits the sent text at the marks' code point offsets; without marks it is one piece. */
function makeCaption(utterance) {
  const points = [...utterance.text];
  const spans = [];
  let at = 0;
  const add = (end, mark) => {
    if (end <= at) return;
    const span = document.createElement('span');
    span.textContent = points.slice(at, end).join('');
    span.className = 'ahead';
    spans.push({ span, mark });
    at = end;
  };
  for (const mark of utterance.marks) {
    add(mark.in_start, null);
    add(mark.in_end, mark);
  }
  add(points.length, null);
  $('caption').replaceChildren(...spans.map(({ span }) => span));
  return spans;
}

function drawCaption(heardMs) {
  if (!shown) return;
  shown.sentence ??= makeCaption(shown);
  let before = shown.marks.length === 0 ? 'said' : 'ahead';
  for (let i = shown.sentence.length - 1; i >= 0; i--) {
    const { span, mark } = shown.sentence[i];
    let state = before;
    if (mark) state = heardMs >= mark.t1_ms ? 'said' : heardMs >= mark.t0_ms && heardMs > 0 && !shown.ended ? 'now' : 'ahead';
    if (span.className !== state) {
      span.className = state;
      if (state === 'now') keepInView(span);
    }
    if (mark) before = state === 'ahead' ? 'ahead' : 'said'; // what lies between two marks
  }
}

function keepInView(span) {
  const box = $('caption');
  const top = span.offsetTop - box.offsetTop;
  if (top < box.scrollTop || top + span.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top;
}

function drawLevel() {
  const { rms } = player.stats();
  const db = Math.max(-60, 20 * Math.log10(rms + 1e-9));
  $('level-bar').style.transform = `scaleX(${(1 + db / 60).toFixed(3)})`;
  if (performance.now() - meterShownAt < 500 && rms >= 1e-4) return;
  meterShownAt = performance.now();
  $('level').setAttribute('aria-valuenow', Math.round(db));
  $('level').setAttribute('aria-valuetext', db <= -60 ? 'silent' : `${Math.round(db)} decibels`);
}

// --- protocol log ---

const LOG_LINES = 300;
let audioLine = null;

function logLine(text) {
  const line = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = (performance.now() / 1000).toFixed(3);
  const body = document.createElement('span');
  body.textContent = text;
  line.append(time, body);
  const log = $('log');
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  log.append(line);
  while (log.childElementCount > LOG_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  return body;
}

function logMessage(arrow, message) {
  audioLine = null;
  const text = JSON.stringify(message);
  logLine(`${arrow} ${text.length > 400 ? `${text.slice(0, 400)}…` : text}`);
}

/** One line per run of audio frames. */
function logAudio({ ctx, seq, payload, last }) {
  if (!audioLine || audioLine.ctx !== ctx) audioLine = { ctx, from: seq, bytes: 0, body: logLine('') };
  audioLine.bytes += payload.length;
  const frames = seq === audioLine.from ? `frame ${seq}` : `frames ${audioLine.from} to ${seq}`;
  audioLine.body.textContent = `← audio of context ${ctx}: ${frames}, ${audioLine.bytes} bytes${last ? ', last' : ''}`;
}

client.addEventListener('sent', ({ detail }) => logMessage('→', detail));
client.addEventListener('received', ({ detail }) => logMessage('←', detail));
$('log-clear').addEventListener('click', () => {
  audioLine = null;
  $('log').replaceChildren();
});

// --- controls ---

$('form').addEventListener('submit', (event) => {
  event.preventDefault();
  speak();
});
$('stop').addEventListener('click', () => {
  if (stop()) say('Stopped.');
});
document.addEventListener('keydown', (event) => {
  if (event.isComposing) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    speak();
  } else if (event.key === 'Escape' && stop()) {
    say('Stopped.');
  }
});
$('text').addEventListener('input', onTyping);
$('text').addEventListener('compositionend', onTyping);
$('live').addEventListener('change', () => {
  clearTimeout(idleTimer);
  typed = $('text').value; // what stands there already is not spoken
  if (!$('live').checked && shown?.live) {
    flush(shown);
    client.end(shown.ctx);
  }
  say($('live').checked ? 'What you type from here on is spoken.' : '');
});
$('speed').addEventListener('input', () => {
  const speed = Number($('speed').value).toFixed(2);
  $('speed-value').textContent = `${speed}×`;
  $('speed').setAttribute('aria-valuetext', `${speed} times`);
});
$('voice').addEventListener('change', fillLanguages);

// The first gesture readies the sound, so that Speak need not wait for it; later ones wake a suspended device.
for (const type of ['pointerdown', 'keydown']) {
  document.addEventListener(type, () => player.start().catch(() => {}), { passive: true, capture: true });
}
addEventListener('resize', drawSoon);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawSoon);

window.sonorantStats = () => ({
  ...player.stats(),
  connection: client.state,
  droppedFrames: client.droppedFrames,
  shownCtx: shown?.ctx ?? null,
  over: shown?.over ?? true,
  ended: shown?.ended ?? true,
  text: shown?.text ?? '',
  playedMs: shown ? player.playedMs(shown.ctx) : 0,
  firstPacketMs: shown?.firstPacketMs ?? null,
  firstSoundMs: shown?.firstSoundMs ?? null,
});

drawSoon();
client.connect();
