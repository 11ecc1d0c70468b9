// The page before a broker with clients, in Chromium: every view with one action each, both languages, both schemes, the keyboard, a phone,
// and a client whose identifier is markup. node checks.js BINARY SCRATCH [PICTURES]
'use strict';

const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const assert = require('node:assert/strict');
const { chromium } = require('playwright-core');
const { Client } = require('./clients.js');

const [binary, scratch, pictures] = process.argv.slice(2);
const HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';
const FIRST_VIEW_BYTES_MAX = 100_000;
// The aim is 1 s on a quiet machine; one that builds meanwhile is not, and the line `first view` tells the figure.
const FIRST_VIEW_MS_MAX = 2_500;
const CLIENTS = 250;
const VIEWS = ['overview', 'shards', 'clients', 'subscriptions', 'retained', 'losses', 'closed', 'tool', 'configuration', 'log'];

const failures = [];
let passed = 0;
async function check(name, run) {
  try {
    await run();
    passed += 1;
  } catch (error) {
    failures.push(`${name}: ${error.message.split('\n').slice(0, 6).join(' | ')}`);
  }
}

async function startBroker() {
  const tls = path.join(scratch, 'tls');
  fs.mkdirSync(tls);
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '5', '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=DNS:localhost', '-keyout', `${tls}/key.pem`, '-out', `${tls}/chain.pem`], { stdio: 'ignore' });
  fs.writeFileSync(path.join(scratch, 'broker.conf'), [
    'data_dir = "data"', 'shards = 2', 'stats_interval_s = 0', '[admin]', 'bind = "127.0.0.1:0"',
    '[[listener]]', 'name = "plain"', 'bind = ["127.0.0.1"]', 'port = 0',
    '[[listener]]', 'name = "devices"', 'bind = ["127.0.0.1"]', 'port = 0', 'anonymous = true',
    '[listener.tls]', 'certificates = [{ chain = "tls/chain.pem", key = "tls/key.pem" }]', '',
  ].join('\n'));
  const broker = spawn(binary, ['--config', 'broker.conf'], { cwd: scratch, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  broker.stdout.on('data', (data) => { output += data; });
  const find = async (pattern) => {
    for (let tries = 0; tries < 400; tries += 1) {
      const found = pattern.exec(output);
      if (found) return found[1];
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`${pattern} does not come:\n${output}`);
  };
  const page = await find(/admin serves (http:\/\/[\d.:]+)/);
  const port = Number(await find(/listening on 127\.0\.0\.1:(\d+)/));
  const token = (scope) => execFileSync(binary, ['--config', 'broker.conf', 'token', 'add', scope, '--scope', scope], { cwd: scratch }).toString().trim();
  return { broker, page, port, tokens: { read: token('read'), operate: token('operate'), admin: token('admin') } };
}

async function populate(port) {
  const clients = [];
  for (let at = 0; at < CLIENTS; at += 1) clients.push(await Client.connect(port, `sensor-${String(at).padStart(4, '0')}`));
  await Promise.all(clients.map((client, at) => client.subscribe(`fleet/${at % 25}/down/#`, 1)));
  const hostile = await Client.connect(port, HOSTILE);
  await hostile.subscribe('a/<b>bold</b>/#');
  const away = await Client.connect(port, 'away', { clean: false });
  await away.subscribe('fleet/+/down/#', 1);
  away.vanish();
  const slow = await Client.connect(port, 'slow');
  await slow.subscribe('big/#');
  slow.stall();
  const pump = await Client.connect(port, 'pump');
  for (let at = 0; at < 30; at += 1) pump.publish(`fleet/${at}/state`, JSON.stringify({ temperature: at, unit: '°C' }), true);
  for (let at = 0; at < 400; at += 1) pump.publish('big/one', 'x'.repeat(60_000));
  const timer = setInterval(() => { for (let at = 0; at < 20; at += 1) pump.publish(`fleet/${at}/down/set`, '{"on":true}'); }, 100);
  return { clients, hostile, pump, slow, timer };
}

/** A page whose console, exceptions, failed requests and violations of the policy count as failures. */
async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: 'en-GB', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const faults = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) faults.push(message.text()); });
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('dialog', (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().startsWith(open.origin) && !request.url().startsWith(open.origin.replace('http', 'ws'))) faults.push(`a request to ${request.url()}`); });
  await page.addInitScript(() => {
    // The time from the beginning of the navigation to the first numbers.
    new MutationObserver((_, observer) => {
      if (!document.querySelector('.tile')) return;
      window.firstView = performance.now();
      observer.disconnect();
    }).observe(document, { childList: true, subtree: true });
  });
  await page.addInitScript(() => document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  return { context, page, faults };
}

async function signIn(page, token) {
  await page.goto(`${open.origin}/`);
  await page.fill('#token', token);
  await page.press('#token', 'Enter');
  await page.waitForSelector('[role=tab]');
}

async function go(page, view) {
  await page.evaluate((name) => { location.hash = `#${name}`; }, view);
  await page.waitForSelector(`.view[data-view="${view.split('/')[0]}"] > *`);
}

const picture = (page, name) => (pictures ? page.screenshot({ path: path.join(pictures, `${name}.png`) }) : null);
const settled = (page) => page.waitForFunction(() => !document.querySelector('.view .loading, .view [aria-busy=true]'));

async function views(browser, { page: origin, tokens, port }, world) {
  const { context, page, faults } = await open(browser);
  await check('a wrong token is refused in words', async () => {
    await page.goto(`${origin}/`);
    assert.equal(new URL(page.url()).pathname, '/dashboard');
    await picture(page, 'entry');
    await page.fill('#token', 'wrong');
    await page.press('#token', 'Enter');
    await page.getByText('This token is not known').waitFor();
    assert.equal(faults.splice(0).filter((fault) => !fault.includes('401')).length, 0, 'only the refused request is told');
  });
  await check('the first view is short and quick', async () => {
    await page.fill('#token', tokens.admin);
    await page.press('#token', 'Enter');
    await page.waitForSelector('.tile');
    const times = [];
    for (let tries = 0; tries < 3; tries += 1) {
      await page.goto(`${origin}/dashboard?${tries}`);
      times.push(await (await page.waitForFunction(() => window.firstView)).jsonValue());
    }
    const took = Math.round(Math.min(...times));
    const bytes = await page.evaluate(() => ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
      .filter((entry) => entry.name.includes('/dashboard')).reduce((all, entry) => all + entry.encodedBodySize, 0));
    assert.ok(bytes > 10_000 && bytes < FIRST_VIEW_BYTES_MAX, `${bytes} bytes`);
    assert.ok(took < FIRST_VIEW_MS_MAX, `${took} ms`);
    console.log(`first view: ${bytes} bytes, ${took} ms`);
  });
  await check('overview: rates, latency and what needs attention', async () => {
    await page.waitForFunction(() => [...document.querySelectorAll('.tile')].some((tile) => /received/.test(tile.textContent) && /[1-9]\d* \/s/.test(tile.textContent)));
    await page.waitForFunction(() => document.querySelectorAll('.chart path.line[d*="L"]').length >= 5);
    await page.getByText('A certificate of devices ends in 4 days').waitFor();
    await page.hover('.plot >> nth=0', { position: { x: 560, y: 60 } });
    await page.waitForSelector('.tip:not([hidden])');
    await picture(page, 'overview');
    await page.click('.worries a[href="#losses"]');
    await page.waitForSelector('.view[data-view=losses]');
  });
  await check('losses: by reason, and the slow subscriber', async () => {
    await page.getByText('outbox_full').waitFor();
    await page.locator('tr.opens', { hasText: 'slow' }).first().waitFor();
    await picture(page, 'losses');
    await page.locator('tr.opens', { hasText: 'slow' }).first().click();
    await page.getByText('Messages lost').waitFor();
    await page.getByText('outbox_full').waitFor();
  });
  await check('shards: side by side', async () => {
    await go(page, 'shards');
    await page.waitForFunction(() => document.querySelectorAll('.view .meter').length >= 4);
    assert.equal(await page.locator('section', { hasText: 'Shards side by side' }).locator('tbody tr').count(), 2);
    await page.getByText('From PUBLISH to its sends').waitFor();
    await picture(page, 'shards');
  });
  await check('clients: pages and search', async () => {
    await go(page, 'clients');
    await page.getByText('of more').waitFor();
    assert.equal(await page.locator('tbody tr').count(), 100);
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('101–200').waitFor();
    await picture(page, 'clients');
    await page.fill('input[name=prefix]', 'sensor-001');
    await page.press('input[name=prefix]', 'Enter');
    await page.getByText('1–10 of 10').waitFor();
    await page.fill('input[name=address]', '10.9.9.0/24');
    await page.press('input[name=address]', 'Enter');
    await page.getByText('No client that is connected fits this search.').waitFor();
    await page.fill('input[name=address]', 'nowhere');
    await page.press('input[name=address]', 'Enter');
    await page.getByText('The list cannot be shown').waitFor();
    faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes('400')));
  });
  await check('a client: its detail, and its end', async () => {
    await go(page, 'clients/sensor-0007');
    await page.getByText('fleet/7/down/#').waitFor();
    await picture(page, 'client');
    await page.click('#disconnect');
    await page.click('dialog button.danger');
    await page.getByText('The client is being disconnected.').waitFor();
    await page.getByText('Its last connection ended').waitFor();
    await page.getByText('An operator closed it.').waitFor();
    await go(page, 'clients/nobody');
    await page.getByText('Nothing is known of this client').waitFor();
    faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes('404')));
  });
  await check('a hostile identifier stays text in every view', async () => {
    await go(page, 'clients');
    await page.fill('input[name=prefix]', '<img');
    await page.press('input[name=prefix]', 'Enter');
    await page.getByText(HOSTILE).first().waitFor();
    await picture(page, 'hostile');
    await page.locator('tr.opens').first().click();
    await page.locator('h2', { hasText: HOSTILE }).waitFor();
    await page.getByText('a/<b>bold</b>/#').waitFor();
    await go(page, 'log');
    await page.locator('.log', { hasText: 'onerror' }).waitFor();
    await go(page, 'subscriptions');
    await page.fill('input[name=topic]', 'a/<b>bold</b>/1');
    await page.press('input[name=topic]', 'Enter');
    await page.locator('td', { hasText: HOSTILE }).first().waitFor();
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.equal(await page.locator('main img, main script, main b:not(.number)').count(), 0);
  });
  await check('subscriptions: who receives a topic', async () => {
    await page.fill('input[name=topic]', 'fleet/3/down/set');
    await page.press('input[name=topic]', 'Enter');
    await page.getByText('away, its messages wait').waitFor();
    assert.equal(await page.locator('section.panel tbody tr').count(), 11);
    await picture(page, 'subscriptions');
  });
  await check('retained: filter, payload, removal', async () => {
    await go(page, 'retained');
    await page.fill('input[name=filter]', 'fleet/7/#');
    await page.press('input[name=filter]', 'Enter');
    await page.locator('tr.opens', { hasText: 'fleet/7/state' }).click();
    await page.getByText('"temperature":7').waitFor();
    await picture(page, 'retained');
    await page.click('#clear');
    await page.click('dialog button.danger');
    await page.getByText('No retained messages').waitFor();
  });
  await check('closed: why a client is gone', async () => {
    await go(page, 'closed');
    await page.fill('input[name=client]', 'sensor-0007');
    await page.press('input[name=client]', 'Enter');
    await page.locator('td', { hasText: 'operator' }).first().waitFor();
    await page.fill('input[name=client]', '');
    await page.press('input[name=client]', 'Enter');
    await page.locator('td', { hasText: 'reset' }).first().waitFor();
    await picture(page, 'closed');
  });
  await check('publish: a client of MQTT in the page', async () => {
    await go(page, 'tool');
    await page.click('#tool-connect');
    await page.locator('#tool-state', { hasText: /^connected$/ }).waitFor();
    await page.fill('input[name=filter]', 'try/+');
    await page.click('#subscribe button');
    await page.locator('.chips button', { hasText: 'try/+' }).waitFor();
    await page.fill('input[name=topic]', 'try/<i>it<i>');
    await page.fill('textarea[name=payload]', '<b>héllo 你好</b>');
    await page.selectOption('select[name=publish-qos]', '1');
    await page.click('#publish button');
    await page.locator('.messages pre', { hasText: '<b>héllo 你好</b>' }).waitFor();
    assert.equal(await page.locator('.messages i, .messages b').count(), 0);
    const reader = await Client.connect(port, 'reader');
    await reader.subscribe('from/page');
    const come = once(reader.socket, 'data');
    await page.fill('input[name=topic]', 'from/page');
    await page.click('#publish button');
    assert.match((await come)[0].toString(), /from\/page.*héllo/s);
    reader.end();
    await page.fill('input[name=topic]', 'no/+/wildcards');
    await page.click('#publish button');
    await page.getByText('Refused').or(page.getByText('Not published')).first().waitFor();
    await picture(page, 'tool');
  });
  await check('configuration: origins, and certificates with their days', async () => {
    await go(page, 'configuration');
    await page.locator('tr', { hasText: 'chain.pem' }).locator('.chip', { hasText: '4' }).first().waitFor();
    await page.check('input[name=given]');
    await page.locator('tr', { hasText: 'broker.conf, line 2' }).first().waitFor();
    await page.fill('input[name=key]', 'listener.devices');
    assert.ok((await page.locator('tr', { hasText: 'listener.plain' }).count()) === 0);
    await picture(page, 'configuration');
  });
  await check('log: lines, and a search', async () => {
    await go(page, 'log');
    await page.locator('.log div', { hasText: 'listening on' }).first().waitFor();
    await page.fill('input[name=text]', 'sensor-0007');
    await page.waitForFunction(() => [...document.querySelectorAll('.log div')].every((line) => line.textContent.includes('sensor-0007')));
    await picture(page, 'log');
  });
  await check('ten thousand of a list are asked for by pages', async () => {
    const asks = [];
    page.on('request', (request) => { if (request.url().includes('/v1/clients')) asks.push(request.url()); });
    await go(page, 'clients');
    await settled(page);
    assert.ok(asks.length > 0 && asks.length <= 4, `${asks.length} requests for a page`);
  });
  await check('nothing is on the console, and the policy holds', () => assert.deepEqual(faults, []));
  await check('a token that is removed ends the session', async () => {
    execFileSync(binary, ['--config', 'broker.conf', 'token', 'remove', 'admin'], { cwd: scratch });
    await page.getByText('This token was removed').waitFor();
  });
  await context.close();
  assert.ok(world.clients.length > 0);
}

async function keyboard(browser, { tokens }) {
  const { context, page, faults } = await open(browser, { colorScheme: 'dark' });
  await check('the keyboard reaches everything', async () => {
    await signIn(page, tokens.operate);
    await page.keyboard.press('Tab');
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'skip');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
    await page.focus('#tab-overview');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await page.waitForSelector('.view[data-view=clients]');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'tab-clients');
    assert.equal(await page.locator('[role=tab][tabindex="0"]').count(), 1);
    await page.locator('tr.opens').first().focus();
    await page.keyboard.press('ArrowDown');
    const name = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
    await page.keyboard.press('Enter');
    await page.locator('h2', { hasText: name }).first().waitFor();
    await page.focus('#tab-clients');
    await page.keyboard.press('End');
    await page.waitForSelector('.view[data-view=log]');
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, 'solid', 'the focus can be seen');
  });
  await check('a token of the scope operate cannot end sessions', async () => {
    await go(page, 'clients/sensor-0008');
    await page.waitForSelector('#disconnect');
    assert.equal(await page.getByRole('button', { name: 'End the session' }).count(), 0);
  });
  await check('the dark scheme is the system\'s, and can be changed', async () => {
    const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await back();
    await page.click('#scheme');
    const light = await back();
    assert.notEqual(dark, light);
    await page.click('#scheme');
    assert.equal(await back(), dark);
    for (const view of VIEWS) {
      await go(page, view);
      if (pictures) {
        await page.waitForTimeout(view === 'overview' ? 5000 : 500);
        await picture(page, `dark-${view}`);
      }
    }
  });
  await check('nothing is on the console in the dark', () => assert.deepEqual(faults, []));
  await context.close();
}

async function phone(browser, { tokens }) {
  const { context, page, faults } = await open(browser, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, locale: 'zh-CN' });
  await check('on a phone and in Chinese, every view fits and every word is there', async () => {
    await signIn(page, tokens.read);
    for (const view of VIEWS) {
      await page.locator(`#tab-${view}`).tap();
      await page.waitForSelector(`.view[data-view=${view}] > *`);
      await settled(page);
      if (pictures) await page.waitForTimeout(view === 'overview' ? 5000 : 500);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 0, `${view} is ${wide} px too wide`);
      await picture(page, `phone-${view}`);
    }
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');
    await page.getByText('此令牌只读').or(page.getByText('日志')).first().waitFor();
    await page.locator('#language').tap();
    await page.getByRole('heading', { name: 'Log' }).waitFor();
  });
  await check('a token that reads sees no payload', async () => {
    await page.locator('#tab-tool').tap();
    await page.getByText('This token reads only').waitFor();
    await page.locator('#tab-retained').tap();
    await page.locator('tr.opens').first().tap();
    await page.getByText('Payloads need a token of the scope operate.').waitFor();
  });
  await check('nothing is on the console of the phone', () => assert.deepEqual(faults, []));
  await context.close();
}

async function ends(browser, { page: origin, tokens, broker }) {
  const { context, page } = await open(browser);
  await check('a broker that does not answer is told in words', async () => {
    await signIn(page, tokens.read);
    await page.waitForSelector('.tile');
    broker.kill('SIGTERM');
    await once(broker, 'exit');
    await page.locator('#status', { hasText: 'no answer' }).waitFor();
    await go(page, 'clients');
    await page.getByText('The broker does not answer.').first().waitFor();
    assert.ok(origin);
  });
  await context.close();
}

(async () => {
  const broker = await startBroker();
  open.origin = broker.page;
  const world = await populate(broker.port);
  // Chromium looks for nothing elsewhere, so that it also starts where there is no network.
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  try {
    await views(browser, broker, world);
    await keyboard(browser, broker);
    await phone(browser, broker);
    clearInterval(world.timer);
    await ends(browser, broker);
  } finally {
    clearInterval(world.timer);
    await browser.close();
    broker.broker.kill('SIGKILL');
  }
  console.log(`dashboard: ${passed} passed, ${failures.length} failed`);
  for (const failure of failures) console.log(`FAILED ${failure}`);
  process.exit(failures.length === 0 ? 0 : 1);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
