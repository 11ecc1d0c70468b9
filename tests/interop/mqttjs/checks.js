// MQTT.js against the broker: node checks.js HOST PORT [tcp|websocket]. Prints "MQTT.js VERSION: N passed, M failed".
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const { once } = require('node:events');
const mqtt = require('mqtt');
const { version: RELEASE } = require('mqtt/package.json');

const [host, port] = [process.argv[2], Number(process.argv[3])];
const overWebSocket = process.argv[4] === 'websocket';
const transport = overWebSocket ? { protocol: 'ws', path: '/mqtt' } : {};
const PATIENCE_MS = 30_000;
const VERSIONS = { '3.1.1': 4, '5.0': 5 };

// Rejects when `promise` takes longer than a test may wait.
function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A connected client whose messages are a queue.
class Client {
  static async connect(version, clientId, options = {}) {
    const self = new Client();
    self.queue = [];
    self.client = mqtt.connect({
      host, port, clientId, ...transport, protocolVersion: VERSIONS[version], reconnectPeriod: 0, clean: true, ...options,
    });
    self.client.on('error', () => {});
    self.client.on('message', (topic, payload, packet) => {
      self.queue.push({ topic, payload, qos: packet.qos, retain: packet.retain, properties: packet.properties });
      self.client.emit('queued');
    });
    const [connack] = await soon(once(self.client, 'connect'), 'CONNACK');
    self.sessionPresent = connack.sessionPresent;
    return self;
  }

  async subscribe(filter, qos) {
    const [granted] = await soon(this.client.subscribeAsync(filter, { qos }), 'SUBACK');
    assert.strictEqual(granted.qos, qos);
  }

  publish(topic, payload, options = {}) {
    return soon(this.client.publishAsync(topic, payload, options), 'acknowledgement');
  }

  async message() {
    while (this.queue.length === 0) await soon(once(this.client, 'queued'), 'message');
    return this.queue.shift();
  }

  async texts(count) {
    const texts = [];
    while (texts.length < count) texts.push((await this.message()).payload.toString());
    return texts;
  }

  end() {
    return soon(this.client.endAsync(), 'end');
  }

  vanish() {
    this.client.stream.destroy();
    return this.client.endAsync(true);
  }
}

const persistence = (version) =>
  version === '5.0' ? { clean: false, properties: { sessionExpiryInterval: 600 } } : { clean: false };

const checks = {
  async qos(version, scope) {
    const subscriber = await Client.connect(version, `${scope}-s`);
    const publisher = await Client.connect(version, `${scope}-p`);
    for (const level of [0, 1, 2]) {
      await subscriber.subscribe(`${scope}/${level}`, level);
      for (const sent of [0, 1, 2]) {
        await publisher.publish(`${scope}/${level}`, `Hello ${sent}`, { qos: sent });
        const message = await subscriber.message();
        assert.strictEqual(message.payload.toString(), `Hello ${sent}`);
        assert.strictEqual(message.qos, Math.min(sent, level));
      }
    }
    await soon(subscriber.client.unsubscribeAsync(`${scope}/0`), 'UNSUBACK');
    await publisher.publish(`${scope}/0`, 'unheard', { qos: 1 });
    await publisher.publish(`${scope}/1`, 'end', { qos: 1 });
    assert.deepStrictEqual(await subscriber.texts(1), ['end']);
    await subscriber.end();
    await publisher.end();
  },

  async retained(version, scope) {
    const publisher = await Client.connect(version, `${scope}-p`);
    await publisher.publish(scope, 'first', { qos: 1, retain: true });
    await publisher.publish(scope, 'second', { qos: 1, retain: true });
    for (const expected of [['second'], []]) {
      const newcomer = await Client.connect(version, `${scope}-n`);
      await newcomer.subscribe(scope, 1);
      for (const text of expected) {
        const message = await newcomer.message();
        assert.deepStrictEqual([message.payload.toString(), message.retain], [text, true]);
      }
      await publisher.publish(scope, 'live', { qos: 1 });
      const message = await newcomer.message();
      assert.deepStrictEqual([message.payload.toString(), message.retain], ['live', false]);
      await newcomer.end();
      await publisher.publish(scope, '', { qos: 1, retain: true });
    }
    await publisher.end();
  },

  async will(version, scope) {
    const watcher = await Client.connect(version, `${scope}-w`);
    await watcher.subscribe(scope, 1);
    const will = (payload) => ({ will: { topic: scope, payload, qos: 1, retain: false } });
    await (await Client.connect(version, `${scope}-m`, will('wrong'))).end();
    await (await Client.connect(version, `${scope}-m`, will('gone'))).vanish();
    assert.deepStrictEqual(await watcher.texts(1), ['gone']);
    await watcher.end();
  },

  async wildcards(version, scope) {
    const client = await Client.connect(version, scope);
    await client.subscribe(`${scope}/+/x`, 1);
    await client.subscribe(`${scope}/tree/#`, 1);
    const topics = [];
    for (const topic of ['a/y', 'a/x', 'tree', 'tree/b/c', 'end/x']) {
      await client.publish(`${scope}/${topic}`, 'x', { qos: 1 });
    }
    while (topics.length < 4) topics.push((await client.message()).topic.slice(scope.length + 1));
    assert.deepStrictEqual(topics, ['a/x', 'tree', 'tree/b/c', 'end/x']);
    await client.end();
  },

  async persistent(version, scope) {
    // Whatever an earlier run has left ends here.
    await (await Client.connect(version, `${scope}-s`)).end();
    let sleeper = await Client.connect(version, `${scope}-s`, persistence(version));
    assert.strictEqual(sleeper.sessionPresent, false);
    await sleeper.subscribe(scope, 2);
    await sleeper.end();
    const publisher = await Client.connect(version, `${scope}-p`);
    const expected = [];
    for (const qos of [1, 2]) {
      for (let number = 0; number < 100; number += 1) {
        expected.push(`${qos}-${number}`);
        await publisher.publish(scope, `${qos}-${number}`, { qos });
      }
    }
    sleeper = await Client.connect(version, `${scope}-s`, persistence(version));
    assert.strictEqual(sleeper.sessionPresent, true);
    assert.deepStrictEqual(await sleeper.texts(200), expected);
    await publisher.publish(scope, 'live', { qos: 2 });
    assert.deepStrictEqual(await sleeper.texts(1), ['live']);
    await sleeper.end();
    await publisher.end();
    const clean = await Client.connect(version, `${scope}-s`);
    assert.strictEqual(clean.sessionPresent, false);
    await clean.end();
  },

  async large(version, scope) {
    const subscriber = await Client.connect(version, `${scope}-s`);
    const publisher = await Client.connect(version, `${scope}-p`);
    await subscriber.subscribe(scope, 2);
    for (const qos of [0, 1, 2]) {
      const payload = crypto.randomBytes(1 << 20);
      await publisher.publish(scope, payload, { qos });
      assert(payload.equals((await subscriber.message()).payload), 'the payload was changed');
    }
    await subscriber.end();
    await publisher.end();
  },

  async manyInFlight(version, scope) {
    const subscriber = await Client.connect(version, `${scope}-s`);
    const publisher = await Client.connect(version, `${scope}-p`);
    await subscriber.subscribe(scope, 2);
    for (const qos of [1, 2]) {
      const numbers = Array.from({ length: 500 }, (_, number) => String(number));
      await Promise.all(numbers.map((number) => publisher.publish(scope, number, { qos })));
      assert.deepStrictEqual(await subscriber.texts(500), numbers);
    }
    await subscriber.end();
    await publisher.end();
  },

  async takeOver(version, scope) {
    const old = await Client.connect(version, scope);
    const closed = once(old.client, 'close');
    const fresh = await Client.connect(version, scope);
    await soon(closed, 'end of the old connection');
    await fresh.subscribe(scope, 1);
    await fresh.publish(scope, 'mine', { qos: 1 });
    assert.deepStrictEqual(await fresh.texts(1), ['mine']);
    await fresh.end();
    await old.end();
  },
};

const checksOf5 = {
  async shared(version, scope) {
    const members = [];
    for (let number = 0; number < 3; number += 1) {
      const member = await Client.connect(version, `${scope}-${number}`);
      await member.subscribe(`$share/group/${scope}`, 1);
      await member.subscribe(`${scope}/end`, 1);
      members.push(member);
    }
    const publisher = await Client.connect(version, `${scope}-p`);
    for (let number = 0; number < 90; number += 1) await publisher.publish(scope, String(number), { qos: 1 });
    await publisher.publish(`${scope}/end`, 'end', { qos: 1 });
    const everything = [];
    for (const member of members) {
      const texts = [];
      while (texts.at(-1) !== 'end') texts.push(...(await member.texts(1)));
      assert(texts.length - 1 >= 15 && texts.length - 1 <= 45, `not even: ${texts.length - 1}`);
      everything.push(...texts.slice(0, -1).map(Number));
      await member.end();
    }
    assert.deepStrictEqual(everything.sort((a, b) => a - b), Array.from({ length: 90 }, (_, number) => number));
    await publisher.end();
  },

  async properties(version, scope) {
    const client = await Client.connect(version, scope);
    await client.subscribe(scope, 1);
    await client.publish(scope, 'x', {
      qos: 1,
      properties: {
        contentType: 'text/plain', responseTopic: 'answer/here', correlationData: Buffer.from('0815'),
        userProperties: { a: ['1', '3'], b: '2' }, messageExpiryInterval: 60,
      },
    });
    const { properties } = await client.message();
    assert.strictEqual(properties.contentType, 'text/plain');
    assert.strictEqual(properties.responseTopic, 'answer/here');
    assert.strictEqual(properties.correlationData.toString(), '0815');
    assert.deepStrictEqual({ ...properties.userProperties }, { a: ['1', '3'], b: '2' });
    assert(properties.messageExpiryInterval >= 55 && properties.messageExpiryInterval <= 60);
    await client.end();
  },

  // MQTT.js gives topics aliases by itself, and takes those of the broker.
  async aliases(version, scope) {
    const properties = { topicAliasMaximum: 10 };
    const client = await Client.connect(version, scope, { autoAssignTopicAlias: true, properties });
    await client.subscribe(`${scope}/#`, 2);
    for (let round = 0; round < 5; round += 1) {
      // It loses the topic of an aliased message of QoS 2, so the broker uses none there.
      for (const [qos, topic] of ['a', 'b', 'c'].entries()) {
        await client.publish(`${scope}/${topic}`, `${round}`, { qos });
        const message = await client.message();
        assert.deepStrictEqual([message.topic, message.payload.toString()], [`${scope}/${topic}`, `${round}`]);
      }
    }
    await client.end();
  },
};

async function main() {
  let [passed, failed] = [0, 0];
  const all = Object.keys(VERSIONS).flatMap((version) =>
    Object.entries(version === '5.0' ? { ...checks, ...checksOf5 } : checks).map((entry) => [version, ...entry]));
  for (const [version, name, check] of all) {
    try {
      await check(version, `${overWebSocket ? 'js-websocket' : 'js'}/${version}/${name}`);
      passed += 1;
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name} ${version}\n${error.stack}`);
    }
  }
  console.log(`MQTT.js ${RELEASE}${overWebSocket ? ' over WebSocket' : ''}: ${passed} passed, ${failed} failed`);
  // Clients of a failed check must not keep the process.
  process.exit(failed > 0 || passed === 0 ? 1 : 0);
}

main();
