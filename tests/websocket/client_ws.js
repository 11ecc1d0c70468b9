// npm's `ws` against the echo server at 127.0.0.1:PORT: a second opinion beside Autobahn's cases.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const WebSocket = require('ws');

async function main() {
  const client = new WebSocket(`ws://127.0.0.1:${process.argv[2]}`, { perMessageDeflate: false });
  await once(client, 'open');
  let passed = 0;
  for (const length of [1, 125, 126, 65535, 65536, 1 << 20]) {
    const payload = Buffer.from(Array.from({ length }, (_, index) => index % 251));
    client.send(payload);
    const [answer, isBinary] = await once(client, 'message');
    assert.ok(isBinary && answer.equals(payload));
    passed += 1;
  }
  client.send('frag', { fin: false });
  client.send('ments', { fin: true });
  const [text, isBinary] = await once(client, 'message');
  assert.ok(!isBinary && text.toString() === 'fragments');
  client.ping(Buffer.alloc(125, '?'));
  const [pong] = await once(client, 'pong');
  assert.ok(pong.equals(Buffer.alloc(125, '?')));
  client.close(4999, 'done');
  const [code] = await once(client, 'close');
  assert.equal(code, 4999);
  passed += 3;
  console.log(`ws ${require('ws/package.json').version}: ${passed} passed, 0 failed`);
}

setTimeout(() => { console.error('too slow'); process.exit(1); }, 30_000).unref();
main().catch((error) => { console.error(error); process.exit(1); });
