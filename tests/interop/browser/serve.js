// Serves page.html, opens it in Chromium, and waits for its report: node serve.js HOST PORT PAGES_PORT PROFILE.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const [host, port, pagesPort, profile] = process.argv.slice(2);
const PATIENCE_MS = 60_000;
const files = {
  '/': [path.join(__dirname, 'page.html'), 'text/html'],
  '/mqtt.min.js': [path.join(path.dirname(require.resolve('mqtt/package.json')), 'dist/mqtt.min.js'), 'text/javascript'],
};

const reports = [];
let reported;
const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://page');
  if (request.method === 'POST' && pathname === '/report') {
    let body = '';
    request.on('data', (data) => { body += data; });
    request.on('end', () => {
      response.end();
      reports.push(JSON.parse(body));
      reported?.();
    });
    return;
  }
  const file = files[pathname];
  if (!file) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'content-type': file[1] }).end(fs.readFileSync(file[0]));
});

// One page in a browser of its own, and what it reports.
async function visit(origin, expected) {
  const url = `${origin}/?broker=ws://${host}:${port}/mqtt&expected=${expected}&scope=page-${process.pid}`;
  const chromium = spawn('chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
    `--user-data-dir=${profile}/${expected}`, url,
  ], { stdio: 'ignore' });
  const come = new Promise((resolve) => { reported = resolve; });
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no report from ${url}`)), PATIENCE_MS);
  });
  try {
    await Promise.race([come, late]);
  } finally {
    clearTimeout(timer);
    chromium.kill('SIGKILL');
    await once(chromium, 'exit');
  }
}

async function main() {
  server.listen(Number(pagesPort), '0.0.0.0');
  await once(server, 'listening');
  const pages = server.address().port;
  await visit(`http://127.0.0.1:${pages}`, 'granted');
  await visit(`http://localhost:${pages}`, 'refused');
  const checks = reports.flatMap((report) => report.checks);
  const failed = checks.filter((check) => check.error);
  for (const { name, error } of failed) console.log(`FAILED ${name}\n${error}`);
  console.log(`${reports[0].browser}: ${checks.length - failed.length} passed, ${failed.length} failed`);
  process.exit(failed.length > 0 || checks.length < 5 ? 1 : 0);
}

main().catch((error) => { console.log(`FAILED in the browser\n${error.stack}`); process.exit(1); });
