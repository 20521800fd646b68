// Looks at pages of `keyhaul keystats report --html` in a real Chromium: errors, requests, layout, keyboard, contrast,
// and what names of keys that are markup do. Called by scripts/check-html: node check-html.mjs FOLDER, which holds
// shop.html, random.html and empty.html. Pictures go into the same folder. Speaks the DevTools protocol over a pipe,
// without a library.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const folder = resolve(process.argv[2]);
const profile = mkdtempSync(join(tmpdir(), 'check-html-'));
const browser = spawn(process.env.CHROMIUM ?? 'chromium', ['--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
  '--no-first-run', '--disable-background-networking', `--user-data-dir=${profile}`, '--remote-debugging-pipe', 'about:blank'],
{ stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });

let last = 0, rest = '';
const waiting = new Map(), listeners = [];
browser.stdio[4].on('data', data => {
  const messages = (rest + data).split('\0');
  rest = messages.pop();
  for (const message of messages.map(text => JSON.parse(text))) {
    if (message.id === undefined) listeners.forEach(listener => listener(message));
    else if (message.error) waiting.get(message.id)[1](new Error(JSON.stringify(message.error)));
    else waiting.get(message.id)[0](message.result);
  }
});
const call = (method, params = {}, sessionId) => new Promise((done, failed) => {
  waiting.set(last += 1, [done, failed]);
  browser.stdio[3].write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
});

let failures = 0, checks = 0;
function check(what, holds, found = '') {
  checks += 1;
  if (holds) return;
  failures += 1;
  console.log(`FAILED ${what}`, found);
}

async function open(name, { width, height = 900, dark = false }) {
  const { targetId } = await call('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
  const page = { troubles: [], requests: [] };
  page.call = (method, params) => call(method, params, sessionId);
  let loaded;
  const load = new Promise(done => { loaded = done; });
  listeners.push(({ method, params, sessionId: of }) => {
    if (of !== sessionId) return;
    if (method === 'Runtime.exceptionThrown') page.troubles.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === 'Runtime.consoleAPICalled' && params.type !== 'log') page.troubles.push(params.args.map(arg => arg.value).join(' '));
    if (method === 'Log.entryAdded') page.troubles.push(params.entry.text);
    if (method === 'Network.requestWillBeSent') page.requests.push(params.request.url);
    if (method === 'Page.loadEventFired') loaded();
  });
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.call(`${domain}.enable`);
  await page.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
  await page.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
  await page.call('Page.navigate', { url: pathToFileURL(join(folder, name)).href });
  await load;
  page.run = async expression => {
    const { result, exceptionDetails } = await page.call('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  page.key = async (key, code = key, text) => {
    const keyCode = { Enter: 13, Escape: 27, Tab: 9, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40 }[key];
    await page.call('Input.dispatchKeyEvent', { type: 'keyDown', key, code, text, windowsVirtualKeyCode: keyCode });
    await page.call('Input.dispatchKeyEvent', { type: 'keyUp', key, code, windowsVirtualKeyCode: keyCode });
  };
  page.picture = async (file, whole = true) => {
    const high = whole ? await page.run('document.documentElement.scrollHeight') : height;
    const clip = { x: 0, y: 0, width, height: high, scale: 1 };
    const { data } = await page.call('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole, clip });
    writeFileSync(join(folder, file), Buffer.from(data, 'base64'));
  };
  return page;
}

/** Runs in the page: texts whose contrast with what is behind them is below 4.5, or 3 where they are large. */
const faint = `(() => {
  const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const rgba = color => { context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1); return context.getImageData(0, 0, 1, 1).data; };
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => { for (; element; element = element.parentElement) { const color = rgba(getComputedStyle(element).backgroundColor); if (color[3] === 255) return color; } return rgba('white'); };
  const found = new Set();
  for (const element of document.body.querySelectorAll('*')) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) found.add(element.tagName + '.' + element.getAttribute('class') + ' ' + ratio.toFixed(2));
  }
  return [...found];
})()`;

async function looks(name) {
  for (const [label, size] of [['wide', { width: 1400 }], ['dark', { width: 1400, dark: true }], ['narrow', { width: 375, height: 800 }], ['narrow-dark', { width: 375, height: 800, dark: true }]]) {
    const page = await open(name, size), what = `${name} ${label}:`;
    await page.picture(`${name.replace('.html', '')}-${label}.png`);
    check(`${what} no error, no warning`, page.troubles.length === 0, page.troubles);
    check(`${what} asks for nothing but itself`, page.requests.every(url => url.endsWith(name) || url.startsWith('data:')), page.requests);
    check(`${what} is not wider than the window`, await page.run('document.documentElement.scrollWidth <= innerWidth'), await page.run('document.documentElement.scrollWidth'));
    check(`${what} contrast`, (await page.run(faint)).length === 0, await page.run(faint));
    check(`${what} every field has a name`, await page.run(`[...document.querySelectorAll('input, select')].every(field => field.labels.length || field.ariaLabel)`));
    check(`${what} ids stand once`, await page.run(`(ids => new Set(ids).size === ids.length)([...document.querySelectorAll('[id]')].map(e => e.id))`));
  }
}

async function works() {
  const page = await open('shop.html', { width: 1400 });
  const { run } = page;
  check('names that are markup stay text', await run(`document.title !== 'harm' && !document.querySelector('main img, main b:not([aria-current]), main i:not([class]):not(.meter i):not(.scale i), main script')`));
  check('and are shown', await run(`document.querySelector('#biggest').textContent.includes('</script><img src=x onerror=')`));
  check('a remark too', await run(`document.querySelector('#notes').textContent.includes('<i>markup</i>')`));

  // Sums of the chart: on each level the cells cover the whole.
  const top = `[...document.querySelectorAll('.icicle button')]`;
  const covered = await run(`${top}.filter(b => b.style.top === '31px').reduce((sum, b) => sum + parseFloat(b.style.width), 0)`);
  check('prefixes cover their parent', covered > 98 && covered < 100.001, covered);
  await run(`${top}[0].focus()`);
  await page.key('ArrowDown');
  const first = await run('document.activeElement.textContent');
  await page.key('ArrowRight');
  await page.key('ArrowLeft');
  check('arrow keys go there and back', first && await run('document.activeElement.textContent') === first, first);
  await page.key('Enter', 'Enter', '\r');
  check('Enter zooms in', await run(`document.querySelector('.crumbs b').textContent`) === `${first}:`, first);
  check('and the focus stays in the chart', await run(`document.activeElement.closest('.icicle') !== null`));
  await page.key('Escape');
  check('Escape zooms out', await run(`document.querySelector('.crumbs b').textContent`) === 'all keys');
  await run(`[...document.querySelectorAll('#prefixes td button')].find(b => b.textContent === 'cache:page:').click()`);
  check('the table zooms in', await run(`document.querySelector('.crumbs').textContent`) === 'all keyscache:page:');

  // Shards of every number hold all of it, and are split as 140 are.
  const wrong = await run(`Array.from({ length: 1000 }, (_, i) => i + 1).filter(n => {
    const rows = shardsOf(n); return rows.length !== n || rows.reduce((s, r) => s + r.bytes, 0) !== all.bytes || rows[n - 1].end !== 16383;
  })`);
  check('shards of every number add up', wrong.length === 0, wrong);
  check('140 shards', await run(`(s => s[105].start === 12285 && s[105].end === 12401)(shardsOf(140))`));
  check('as the report itself splits them', await run(`JSON.stringify(shardsOf(report.shards.length).map(s => s.bytes)) === JSON.stringify(report.shards.map(s => s.bytes))`));
  for (const number of [1, 7, 140, 1000]) {
    await run(`(e => { e.value = ${number}; e.dispatchEvent(new Event('input')); })(document.querySelector('#shards'))`);
    check(`the slider shows ${number}`, await run(`document.querySelectorAll('.heat button').length`) === number);
    check(`${number} shards fit`, await run('document.documentElement.scrollWidth <= innerWidth'));
  }
  check('a hot shard is marked', await run(`document.querySelectorAll('.heat .hot').length > 0`));

  // Tables sort and filter.
  const column = `[...document.querySelectorAll('#biggest tbody tr')].map(row => row.cells[3].textContent)`;
  const title = `document.querySelectorAll('#biggest th button')[3]`;
  const falling = await run(column);
  await run(`${title}.click()`);
  check('a title sorts the other way', JSON.stringify(await run(column)) === JSON.stringify(falling.slice().reverse()) || (await run(column))[0] !== falling[0]);
  check('and says so', await run(`${title}.parentElement.ariaSort`) === 'ascending');
  await run(`(e => { e.value = 'events'; e.dispatchEvent(new Event('input')); })(document.querySelector('#biggest input'))`);
  check('a filter leaves what it names', await run(`[...document.querySelectorAll('#biggest tbody tr')].every(row => row.textContent.includes('events'))`));
  check('and says how many', await run(`document.querySelector('#biggest [role=status]').textContent`) === '5 of 125 rows', await run(`document.querySelector('#biggest [role=status]').textContent`));

  // By keys instead of bytes, and every histogram.
  await run(`document.querySelector('input[value=keys]').click()`);
  check('charts by keys', await run(`document.querySelector('#shards-section .readout').textContent.includes('keys on average')`));
  const drawn = await run(`(select => [...select.options].every(option => {
    select.value = option.value; select.dispatchEvent(new Event('change'));
    return document.querySelectorAll('#histograms rect').length > 0;
  }))(document.querySelector('select#spread'))`);
  check('every histogram is drawn', drawn);
  check('no error on the way', page.troubles.length === 0, page.troubles);
  await page.picture('shop-keys.png');
}

try {
  await looks('shop.html');
  await looks('random.html');
  await looks('empty.html');
  await works();
  console.log(`${checks - failures} passed, ${failures} failed`);
} finally {
  const exited = new Promise(done => browser.once('exit', done));
  call('Browser.close').catch(() => browser.kill());
  await exited;
  rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
process.exit(failures ? 1 : 0);
