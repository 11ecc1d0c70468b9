// Clients of MQTT 3.1.1 over TCP for the checks: as much as makes rows, traffic, losses and ends.
'use strict';

const net = require('node:net');
const { once } = require('node:events');

const text = (value) => {
  const octets = Buffer.from(value);
  return Buffer.concat([Buffer.from([octets.length >> 8, octets.length & 255]), octets]);
};

function packet(first, ...parts) {
  const body = Buffer.concat(parts);
  const head = [first];
  let left = body.length;
  do {
    head.push((left & 127) | (left > 127 ? 128 : 0));
    left >>= 7;
  } while (left > 0);
  return Buffer.concat([Buffer.from(head), body]);
}

class Client {
  static async connect(port, clientId, { clean = true } = {}) {
    const client = new Client();
    client.socket = net.connect(port, '127.0.0.1');
    client.socket.on('error', () => {});
    client.send(packet(0x10, text('MQTT'), Buffer.from([4, clean ? 2 : 0, 0, 0]), text(clientId)));
    await once(client.socket, 'data');
    client.socket.resume();
    return client;
  }

  send(octets) {
    this.socket.write(octets);
  }

  async subscribe(filter, qos = 0) {
    this.send(packet(0x82, Buffer.from([0, 1]), text(filter), Buffer.from([qos])));
    await once(this.socket, 'data');
    this.socket.resume();
  }

  publish(topic, payload, retain = false) {
    this.send(packet(retain ? 0x31 : 0x30, text(topic), Buffer.from(payload)));
  }

  /** Reads no more. */
  stall() {
    this.socket.pause();
  }

  end() {
    this.send(packet(0xe0));
    this.socket.end();
  }

  vanish() {
    this.socket.resetAndDestroy();
  }
}

module.exports = { Client };
