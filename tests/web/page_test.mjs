// The pages in headless Chromium against a server: see server.mjs for which.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

import { startFakeServer } from './fake_server.mjs';
import { startServer } from './server.mjs';

const SENTENCE = 'The quick brown fox jumps over the lazy dog.';
const LONG_TEXT = Array(8).fill('This sentence goes on for a while, so that there is something left to stop.').join(' ');
const SOUND_RMS = 0.01; // -40 dBFS over 21 ms: speech or the fake server's tone, not noise
const PLAIN_HOST = 'elsewhere.test'; // resolves to this machine, without being a secure origin as 127.0.0.1 is
const shots = process.env.SONORANT_SCREENSHOTS;

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--autoplay-policy=no-user-gesture-required',
      `--host-resolver-rules=MAP ${PLAIN_HOST} 127.0.0.1`,
    ],
  });
});

after(async () => {
  await browser?.close();
  await server?.close();
});

/** Opens a page, hands it over, and afterwards demands that it was quiet on the console and stayed on its host. */
async function withPage(options, use) {
  const { at = '', base = server.url, connected = true, init, allow, ...contextOptions } = options;
  const context = await browser.newContext({ viewport: { width: 1000, height: 900 }, ...contextOptions });
  const page = await context.newPage();
  const complaints = [];
  page.wire = [];
  page.on('websocket', (socket) => {
    const keep = (direction) => ({ payload }) => {
      if (typeof payload === 'string') page.wire.push({ direction, message: JSON.parse(payload) });
    };
    socket.on('framesent', keep('sent'));
    socket.on('framereceived', keep('received'));
  });
  page.on('console', (message) => {
    if (allow?.test(message.text())) return;
    if (['error', 'warning'].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:' && url.host !== new URL(base).host) complaints.push(`outside request: ${request.url()}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} for ${response.url()}`);
  });
  try {
    if (init) await page.addInitScript(init);
    await page.goto(base + at);
    if (connected) await until(page, (s) => s.connection === 'online');
    await use(page);
    assert.deepEqual(complaints, []);
  } finally {
    await context.close();
  }
}

function stats(page) {
  return page.evaluate(() => window.sonorantStats?.() ?? {});
}

/** Waits until the predicate holds for sonorantStats(). Polled from here: the page's policy forbids eval in its timers. */
async function until(page, predicate, timeoutMs = 30000) {
  for (const end = Date.now() + timeoutMs; ; ) {
    const now = await stats(page);
    if (predicate(now)) return now;
    if (Date.now() > end) throw new Error(`never: ${predicate}; last: ${JSON.stringify(now)}`);
    await page.waitForTimeout(15);
  }
}

async function untilStatus(page, pattern) {
  for (const end = Date.now() + 30000; ; ) {
    const text = await page.locator('#status').textContent();
    if (pattern.test(text)) return;
    if (Date.now() > end) throw new Error(`status never ${pattern}; last: ${text}`);
    await page.waitForTimeout(15);
  }
}

function control(page, role, name) {
  return page.getByRole(role, { name, exact: false });
}

async function shoot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
}

/** Text messages of this type on the page's sockets, as the browser saw them. */
function messages(page, direction, type) {
  return page.wire.filter((entry) => entry.direction === direction && entry.message.type === type).map(({ message }) => message);
}

function sent(page, type) {
  return messages(page, 'sent', type);
}

function received(page, type) {
  return messages(page, 'received', type);
}

// --- the page itself ---

test('page: loads under the strict policy, connects and lists the voices', async () => {
  const response = await fetch(server.url);
  const policy = response.headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /'unsafe-inline'|'unsafe-eval'/);
  await withPage({}, async (page) => {
    assert.match(await page.locator('#connection-text').textContent(), /Connected/);
    assert.ok((await page.locator('#voice option').count()) >= 1);
    assert.ok((await page.locator('#lang option').count()) >= 2);
    await shoot(page, 'idle');
  });
});

test('page: every control has a role and a name, and the tab order is the reading order', async () => {
  await withPage({}, async (page) => {
    const controls = [
      ['textbox', 'Text to speak'],
      ['combobox', 'Voice'],
      ['combobox', 'Language'],
      ['slider', 'Speed'],
      ['button', 'Speak'],
      ['button', 'Stop'],
      ['switch', 'Speak as I type'],
    ];
    for (const [role, name] of controls) {
      const locator = page.getByRole(role, { name });
      assert.equal(await locator.count(), 1, `${role} "${name}"`);
      await page.keyboard.press('Tab');
      assert.ok(await locator.evaluate((element) => element === document.activeElement), `focus on ${role} "${name}"`);
      const outline = await locator.evaluate((element) => getComputedStyle(element).outlineStyle);
      assert.notEqual(outline, 'none', `${role} "${name}" shows its focus`);
    }
    assert.equal(await page.getByRole('heading', { level: 1 }).count(), 1);
    assert.equal(await page.getByRole('main').count(), 1);
    assert.equal(await page.getByRole('meter', { name: 'Output level' }).count(), 1);
    assert.equal(await page.getByRole('img', { name: /Waveform/ }).count(), 1);
    assert.equal(await page.getByRole('status').count(), 2);
    assert.equal(await page.locator('html').getAttribute('lang'), 'en');
    const repeated = await page.evaluate(() => {
      const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
      return ids.filter((id, i) => ids.indexOf(id) !== i);
    });
    assert.deepEqual(repeated, [], 'no id twice');
  });
});

test('page: text has AA contrast in light and dark, and nothing overflows a narrow screen', async () => {
  for (const colorScheme of ['light', 'dark']) {
    await withPage({ colorScheme, viewport: { width: 320, height: 800 } }, async (page) => {
      const failures = await page.evaluate(() => {
        const luminance = (rgb) => {
          const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
        const backdrop = (element) => {
          for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
          }
          return [255, 255, 255];
        };
        const bad = [];
        const ahead = document.createElement('span');
        ahead.className = 'ahead';
        ahead.textContent = 'to come';
        const now = ahead.cloneNode(true);
        now.className = 'now';
        document.getElementById('caption').append(ahead, now);
        document.getElementById('status').classList.add('bad');
        for (const element of document.querySelectorAll('h1, p, label, output, textarea, select, button, dt, dd, summary, a, kbd, span.ahead, span.now')) {
          const a = luminance(parse(getComputedStyle(element).color).slice(0, 3));
          const b = luminance(backdrop(element));
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < 4.5) bad.push(`${element.tagName}#${element.id}.${element.className}: ${ratio.toFixed(2)}`);
        }
        return bad;
      });
      assert.deepEqual(failures, [], colorScheme);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${overflow} px wider than the screen`);
      await shoot(page, `narrow-${colorScheme}`);
    });
  }
});

// --- sound ---

for (const decoder of ['webcodecs', 'wasm', 'pcm']) {
  test(`sound: typed text reaches the worklet as real samples (${decoder})`, async () => {
    await withPage({ at: `?decoder=${decoder}` }, async (page) => {
      await control(page, 'textbox', 'Text to speak').fill('');
      await control(page, 'textbox', 'Text to speak').pressSequentially(SENTENCE);
      await page.getByRole('button', { name: 'Speak' }).click();
      await until(page, (s) => s.playing && s.peakRms > 0.01);
      if (decoder === 'webcodecs') await shoot(page, 'speaking');
      const end = await until(page, (s) => s.ended);
      assert.equal(end.decoder, decoder);
      assert.equal(end.worklet, true);
      assert.ok(end.peakRms > SOUND_RMS, `rms ${end.peakRms}`);
      assert.equal(end.badPackets, 0);
      assert.equal(end.lateFrames, 0);
      assert.ok(end.firstPacketMs > 0 && end.firstSoundMs > end.firstPacketMs, JSON.stringify(end));
      const [context] = end.contexts;
      assert.ok(context.frames > 20, `${context.frames} frames`);
      assert.equal(context.played, context.samples, 'all that was decoded was played');
      const [opened] = received(page, 'opened');
      assert.equal(opened.rate, 48000);
      const whole = context.frames * opened.frame_samples - opened.pre_skip;
      // An Opus packet is always whole; the last PCM frame may be short.
      const slack = decoder === 'pcm' ? opened.frame_samples : 0;
      assert.ok(context.samples <= whole && context.samples >= whole - slack, `${context.samples} samples, wanted ${whole}: the pre-skip and nothing else is removed`);
      assert.match(await page.locator('#first-packet').textContent(), /^\d+ ms$/);
      assert.match(await page.locator('#first-sound').textContent(), /^\d+ ms$/);
      assert.match(await page.locator('#caption').textContent(), /quick brown fox/);
      assert.match(await page.locator('#status').textContent(), /Finished/);
      assert.equal(sent(page, 'open')[0].format.codec, decoder === 'pcm' ? 'pcm_s16le' : 'opus');
      console.log(`  ${decoder}: first packet ${end.firstPacketMs.toFixed(0)} ms, first sound ${end.firstSoundMs.toFixed(0)} ms, late ${end.misses}`);
    });
  });
}

for (const [missing, expected] of [
  [[], 'webcodecs'],
  [['AudioDecoder'], 'wasm'],
  [['AudioDecoder', 'WebAssembly'], 'pcm'],
]) {
  test(`sound: without ${missing.join(' and ') || 'anything missing'} the page chooses ${expected}`, async () => {
    const init = `for (const name of ${JSON.stringify(missing)}) delete globalThis[name];`;
    await withPage({ init }, async (page) => {
      await control(page, 'textbox', 'Text to speak').fill('Short and clear.');
      await page.getByRole('button', { name: 'Speak' }).click();
      const end = await until(page, (s) => s.ended && s.playedSamples > 0);
      assert.equal(end.decoder, expected);
      assert.ok(end.peakRms > SOUND_RMS);
    });
  });
}

test('sound: a page over plain HTTP from another machine has neither worklet nor WebCodecs, and still plays', async () => {
  const fake = await startFakeServer();
  const base = fake.url.replace('127.0.0.1', PLAIN_HOST);
  try {
    await withPage({ base, allow: /ScriptProcessorNode is deprecated/ }, async (page) => {
      assert.equal(await page.evaluate(() => isSecureContext), false);
      await control(page, 'textbox', 'Text to speak').fill(SENTENCE);
      await page.getByRole('button', { name: 'Speak' }).click();
      const end = await until(page, (s) => s.ended && s.playedSamples > 0);
      assert.equal(end.worklet, false);
      assert.equal(end.decoder, 'wasm');
      assert.ok(end.peakRms > SOUND_RMS);
      assert.equal(end.contexts[0].played, end.contexts[0].samples);
    });
  } finally {
    fake.close();
  }
});

test('sound: Stop silences within 100 ms, nothing is played afterwards, and the next utterance works', async () => {
  await withPage({}, async (page) => {
    await control(page, 'textbox', 'Text to speak').fill(LONG_TEXT);
    await page.getByRole('button', { name: 'Speak' }).click();
    await until(page, (s) => s.playing && s.playedMs > 500 && s.rms > 1e-3);
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.waitForTimeout(150);
    const early = await stats(page);
    const silenceMs = ((early.lastLoudFrame - early.cancelFrame) * 1000) / early.sampleRate;
    assert.ok(early.cancelFrame > 0 && silenceMs < 100, `loud for ${silenceMs} ms after Stop`);
    await page.waitForTimeout(700);
    const late = await stats(page);
    assert.ok(late.frame - late.cancelFrame > 0.5 * late.sampleRate, 'the worklet went on rendering');
    assert.equal(late.lastLoudFrame, early.lastLoudFrame, 'nothing was played afterwards');
    assert.equal(late.playing, false);
    assert.equal(late.bufferedMs, 0);
    const [cancel] = sent(page, 'cancel');
    // A cancel is only sent while the server is still speaking.
    if (cancel) assert.ok(cancel.played_ms > 400 && cancel.played_ms < late.contexts[0].played / 48 + 1, JSON.stringify(cancel));
    assert.match(await page.locator('#status').textContent(), /Stopped/);
    console.log(`  silent ${silenceMs.toFixed(1)} ms after Stop, played_ms ${cancel?.played_ms}`);

    await control(page, 'textbox', 'Text to speak').fill('And again.');
    await page.getByRole('button', { name: 'Speak' }).click();
    const end = await until(page, (s) => s.ended && s.contexts.length === 2 && s.contexts[1].played > 0);
    assert.equal(end.contexts[1].played, end.contexts[1].samples);
  });
});

test('sound: speaking again replaces what is being said', async () => {
  await withPage({}, async (page) => {
    await control(page, 'textbox', 'Text to speak').fill(LONG_TEXT);
    await page.keyboard.press('Control+Enter');
    await until(page, (s) => s.playing && s.playedMs > 200);
    await control(page, 'textbox', 'Text to speak').fill('Something else.');
    await page.keyboard.press('Control+Enter');
    const end = await until(page, (s) => s.contexts.length === 2 && s.ended);
    assert.equal(end.text, 'Something else.');
    assert.equal(end.contexts[1].played, end.contexts[1].samples);
    assert.ok(end.contexts[0].played < 4 * 48000);
  });
});

test('keyboard: Ctrl+Enter speaks from the box, Esc stops, an empty box is said so', async () => {
  await withPage({}, async (page) => {
    const box = control(page, 'textbox', 'Text to speak');
    await box.focus();
    await page.keyboard.press('Control+A');
    await page.keyboard.press('Delete');
    await page.keyboard.press('Control+Enter');
    await untilStatus(page, /no text/);
    await page.keyboard.type(LONG_TEXT);
    await page.keyboard.press('Control+Enter');
    await until(page, (s) => s.playing);
    assert.equal(await box.inputValue(), LONG_TEXT, 'Ctrl+Enter types nothing');
    await page.keyboard.press('Escape');
    const stopped = await until(page, (s) => s.ended && !s.playing);
    assert.ok(stopped.contexts[0].played < 3 * 48000);
    // The switch, the buttons and the log work by keyboard.
    await page.getByRole('switch').focus();
    await page.keyboard.press('Space');
    assert.equal(await page.getByRole('switch').isChecked(), true);
    await page.locator('summary').focus();
    await page.keyboard.press('Enter');
    assert.ok((await page.locator('#log li').count()) > 3);
    assert.ok(await page.locator('#log').isVisible());
    await shoot(page, 'log');
  });
});

test('typing: text is spoken while it is typed, the unfinished word is held back', async () => {
  await withPage({}, async (page) => {
    const box = control(page, 'textbox', 'Text to speak');
    await box.fill('');
    await page.getByRole('switch').check();
    await box.focus();
    await page.keyboard.type('Hello ther', { delay: 30 });
    await until(page, (s) => s.text === 'Hello ');
    // Correcting the word in progress costs nothing.
    await page.keyboard.press('Backspace');
    await page.keyboard.type('re. How are you today? And', { delay: 30 });
    await until(page, (s) => s.playing && s.peakRms > 0.01);
    assert.equal((await stats(page)).over, false, 'spoken before the text was finished');
    await until(page, (s) => s.text === 'Hello there. How are you today? And');
    assert.equal(sent(page, 'flush').length, 1, 'a pause in typing flushes');
    await page.keyboard.type(' more.', { delay: 30 });
    await page.keyboard.press('Control+Enter');
    const end = await until(page, (s) => s.ended);
    assert.equal(end.text, 'Hello there. How are you today? And more.');
    assert.equal(end.contexts.length, 1, 'one context for all of it');
    assert.equal(sent(page, 'text').map(({ text }) => text).join(''), end.text);
    assert.equal(sent(page, 'end').length, 1);
  });
});

test('typing: a change to what was already sent is not spoken again', async () => {
  await withPage({}, async (page) => {
    const box = control(page, 'textbox', 'Text to speak');
    await box.fill('');
    await page.getByRole('switch').check();
    await box.focus();
    await page.keyboard.type('One two three ');
    await until(page, (s) => s.text === 'One two three ');
    await page.keyboard.press('Home');
    await page.keyboard.press('Delete');
    await page.keyboard.press('End');
    await page.keyboard.type('four ');
    const now = await until(page, (s) => s.text.endsWith('four '));
    assert.equal(now.text, 'One two three four ');
  });
});

test('connection: a lost socket is dialled again, the page says so, and speaking works', async () => {
  const fake = await startFakeServer();
  try {
    await withPage({ base: fake.url, colorScheme: 'dark' }, async (page) => {
      await control(page, 'textbox', 'Text to speak').fill(LONG_TEXT);
      await page.keyboard.press('Control+Enter');
      await until(page, (s) => s.playing && s.playedMs > 1000);
      await shoot(page, 'dark');
      fake.dropSockets();
      await until(page, (s) => s.connection !== 'online');
      assert.match(await page.locator('#status').textContent(), /lost/);
      await until(page, (s) => s.connection === 'online');
      await control(page, 'textbox', 'Text to speak').fill('Back again.');
      await page.keyboard.press('Control+Enter');
      const end = await until(page, (s) => s.ended && s.contexts.length === 2);
      assert.ok(end.contexts[1].played > 0);
    });
  } finally {
    fake.close();
  }
});

test('error: an unknown voice is reported and the next utterance works', async () => {
  await withPage({}, async (page) => {
    await page.evaluate(() => {
      const option = new Option('nobody', 'nobody');
      document.getElementById('voice').append(option);
      option.selected = true;
    });
    await page.keyboard.press('Control+Enter');
    await untilStatus(page, /unknown_voice/);
    await until(page, (s) => s.ended);
    await page.waitForTimeout(200);
    await untilStatus(page, /unknown_voice/); // and the replies to what was under way do not hide it
    await page.evaluate(() => (document.getElementById('voice').selectedIndex = 0));
    await control(page, 'textbox', 'Text to speak').fill('Better.');
    await page.keyboard.press('Control+Enter');
    await until(page, (s) => s.ended && s.playedSamples > 0);
  });
});

test('motion: with reduced motion the page still works', async () => {
  await withPage({ reducedMotion: 'reduce' }, async (page) => {
    await control(page, 'textbox', 'Text to speak').fill('Calm.');
    await page.keyboard.press('Control+Enter');
    await until(page, (s) => s.ended && s.playedSamples > 0);
  });
});

// --- overlay ---

test('overlay: speaks the hash and posted text, shows it, and is transparent', async () => {
  await withPage({ at: `overlay#${encodeURIComponent('Words from the address.')}` }, async (page) => {
    const first = await until(page, (s) => s.playing && s.peakRms > 0.01);
    assert.equal(await page.locator('#caption').textContent(), 'Words from the address.');
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgba(0, 0, 0, 0)');
    assert.equal(await page.locator('#unlock').isVisible(), false);
    await shoot(page, 'overlay');
    await page.evaluate(() => window.postMessage({ type: 'speak', text: 'Then this.' }, location.origin));
    const second = await until(page, (s) => s.playing && s.ctx !== null && s.ctx !== first.ctx);
    assert.equal(await page.locator('#caption').textContent(), 'Then this.');
    await page.evaluate(() => window.postMessage({ type: 'stop' }, location.origin));
    await until(page, (s) => !s.playing);
    assert.equal(await page.locator('#caption').textContent(), '');
    // A page of another origin has no say here.
    await page.evaluate(() => {
      const data = { type: 'speak', text: 'Not mine.' };
      dispatchEvent(new MessageEvent('message', { origin: 'https://elsewhere.example', data }));
    });
    await page.waitForTimeout(300);
    const late = await stats(page);
    assert.equal(late.waiting, 0);
    assert.ok(late.contexts.every(({ ctx }) => ctx <= second.ctx));
  });
});
