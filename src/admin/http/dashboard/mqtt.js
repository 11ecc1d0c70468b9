// As much of a client of MQTT 5.0 as the tool needs, over the browser's WebSocket: QoS 0 and 1 out, 0 to 2 in.

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const KEEP_ALIVE_S = 30;

function text(value) {
  const octets = encoder.encode(value);
  return [octets.length >> 8, octets.length & 255, ...octets];
}

function packet(first, body) {
  const head = [first];
  let left = body.length;
  do {
    head.push((left & 127) | (left > 127 ? 128 : 0));
    left >>= 7;
  } while (left > 0);
  const whole = new Uint8Array(head.length + body.length);
  whole.set(head);
  whole.set(body, head.length);
  return whole;
}

/** A number of 7 bits an octet: `[value, octets]`, or `null` while it is not whole. */
function variable(octets, at) {
  let value = 0;
  for (let step = 0; step < 4; step += 1) {
    if (at + step >= octets.length) return null;
    value |= (octets[at + step] & 127) << (7 * step);
    if (octets[at + step] < 128) return [value, step + 1];
  }
  throw new Error('malformed');
}

/** The Reason String among properties. */
function reasonString(octets, at) {
  if (at >= octets.length) return '';
  const [length, octetsOfLength] = variable(octets, at);
  const end = at + octetsOfLength + length;
  for (let place = at + octetsOfLength; place < end;) {
    const kind = octets[place];
    const two = (octets[place + 1] << 8) | octets[place + 2];
    if (kind === 0x1f) return decoder.decode(octets.subarray(place + 3, place + 3 + two));
    const sizes = { 0x11: 5, 0x21: 3, 0x22: 3, 0x24: 2, 0x25: 2, 0x27: 5, 0x28: 2, 0x29: 2, 0x2a: 2, 0x13: 3 };
    if (sizes[kind]) place += sizes[kind];
    else if (kind === 0x26) place += 3 + two + 2 + ((octets[place + 3 + two] << 8) | octets[place + 4 + two]);
    else place += 3 + two;
  }
  return '';
}

/** `on` has `open`, `message(topic, payload, { qos, retain })` and `end(code, reason)`, of which the last comes once. */
export class Client {
  constructor(url, { clientId, username, password }, on) {
    this.on = on;
    this.waiting = new Map();
    this.number = 0;
    this.rest = new Uint8Array();
    this.socket = new WebSocket(url, ['mqtt']);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => this.send(0x10, [
      ...text('MQTT'), 5, 0xc2, KEEP_ALIVE_S >> 8, KEEP_ALIVE_S & 255, 0, ...text(clientId), ...text(username), ...text(password),
    ]);
    this.socket.onmessage = (event) => {
      try {
        this.take(new Uint8Array(event.data));
      } catch {
        this.finish(0x81, '');
      }
    };
    this.socket.onclose = () => this.finish(null, '');
  }

  send(first, body) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(packet(first, body));
  }

  take(octets) {
    const all = new Uint8Array(this.rest.length + octets.length);
    all.set(this.rest);
    all.set(octets, this.rest.length);
    let at = 0;
    while (at < all.length) {
      const length = variable(all, at + 1);
      if (!length || at + 1 + length[1] + length[0] > all.length) break;
      const begin = at + 1 + length[1];
      this.packet(all[at], all.subarray(begin, begin + length[0]));
      at = begin + length[0];
    }
    this.rest = all.slice(at);
  }

  packet(first, body) {
    const kind = first >> 4;
    const answer = (at, reason) => {
      this.waiting.get((body[at] << 8) | body[at + 1])?.(reason);
      this.waiting.delete((body[at] << 8) | body[at + 1]);
    };
    if (kind === 2) {
      if (body[1] !== 0) return this.finish(body[1], reasonString(body, 2));
      this.ping = setInterval(() => this.send(0xc0, []), (KEEP_ALIVE_S * 1000) / 2);
      this.on.open();
    } else if (kind === 3) {
      this.publish(first, body);
    } else if (kind === 4) {
      answer(0, { code: body[2] ?? 0, why: body.length > 3 ? reasonString(body, 3) : '' });
    } else if (kind === 6) {
      this.send(0x70, [body[0], body[1]]);
    } else if (kind === 9 || kind === 11) {
      answer(0, { code: body[body.length - 1], why: reasonString(body, 2) });
    } else if (kind === 14) {
      this.finish(body[0] ?? 0, body.length > 1 ? reasonString(body, 1) : '');
    }
    return undefined;
  }

  publish(first, body) {
    const topicEnd = 2 + ((body[0] << 8) | body[1]);
    const qos = (first >> 1) & 3;
    let at = topicEnd;
    if (qos > 0) {
      this.send(qos === 1 ? 0x40 : 0x50, [body[at], body[at + 1]]);
      at += 2;
    }
    const [length, octets] = variable(body, at);
    this.on.message(decoder.decode(body.subarray(2, topicEnd)), body.slice(at + octets + length), { qos, retain: (first & 1) === 1 });
  }

  /** Sends a packet with a number; resolves to the reason code of its answer. */
  numbered(first, body) {
    do this.number = (this.number % 65535) + 1; while (this.waiting.has(this.number));
    const number = [this.number >> 8, this.number & 255];
    return new Promise((resolve) => {
      this.waiting.set(this.number, resolve);
      this.send(first, body(number));
    });
  }

  subscribe(filter, qos) {
    return this.numbered(0x82, (number) => [...number, 0, ...text(filter), qos]);
  }

  unsubscribe(filter) {
    return this.numbered(0xa2, (number) => [...number, 0, ...text(filter)]);
  }

  send0or1(topic, payload, qos, retain) {
    const flags = (qos << 1) | (retain ? 1 : 0);
    if (qos === 0) {
      this.send(0x30 | flags, [...text(topic), 0, ...payload]);
      return Promise.resolve({ code: 0, why: '' });
    }
    return this.numbered(0x30 | flags, (number) => [...text(topic), ...number, 0, ...payload]);
  }

  end() {
    this.send(0xe0, []);
    this.socket.close();
  }

  finish(code, reason) {
    if (this.hasEnded) return;
    this.hasEnded = true;
    clearInterval(this.ping);
    for (const resolve of this.waiting.values()) resolve({ code: 0x80, why: '' });
    this.socket.close();
    this.on.end(code, reason);
  }
}
