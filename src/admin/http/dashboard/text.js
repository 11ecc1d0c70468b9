// The words of the page in English, and the choice of the language. Chinese is loaded where it is chosen.

const KEY = 'mqtt-broker-language';
let chosen = 'en';
let words = null;

export const language = () => chosen;

/** The language that was chosen before, or else the browser's. */
export const wanted = () => localStorage.getItem(KEY) ?? (navigator.language.startsWith('zh') ? 'zh' : 'en');

export async function chooseLanguage(name) {
  if (name === 'zh') words ??= (await import('./zh.js')).words;
  chosen = name;
  localStorage.setItem(KEY, name);
}

/** A text in the language that is chosen; `{name}` stands for a value. A text without a translation is told on the console. */
export function t(text, values) {
  let own = text;
  if (chosen === 'zh') {
    own = words[text] ?? text;
    if (!(text in words)) console.error(`no translation: ${text}`);
  }
  return values ? own.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole)) : own;
}

const MEANINGS = {
  stage: {
    turn: 'A turn of the shard', publish_to_flush: 'From PUBLISH to its sends', auth: 'Authentication of a client', handshake: 'Opening of TLS, WebSocket, PROXY', persist: 'A record until the disk has it',
  },
  memory: {
    connections: 'Connections', outboxes: 'Bytes to be sent', partial_packets: 'Packets of which a part has come', authentications: 'Clients being authenticated', aliases_in: 'Topic aliases of clients', aliases_out: 'Topic aliases towards clients',
    sessions: 'Sessions', wills: 'Wills', queues: 'Messages queued and in flight', retained: 'Retained messages', subscriptions: 'Subscriptions', lanes: 'Lanes between shards',
  },
  drop: {
    expired: 'Their time was over before they could be sent.', queue_full: 'The queue of the session was full.', outbox_full: 'The client reads too slowly, and they had QoS 0.', offline: 'The client was away, and they had QoS 0.',
    packet_too_large: 'They are longer than the client accepts.', session_ended: 'The session ended while they waited.', connection_lost: 'The connection ended before they were sent, and they had QoS 0.', refused: 'The client refused them.',
    no_member: 'No member of the group could take them.', moved: 'They went to another session of the group, which counts them; nothing is lost.', denied: 'The rules forbid the client to read them.', memory: 'Memory was short.',
  },
  cause: {
    disconnect: 'The client said goodbye.', disconnect_with_will: 'The client said goodbye and had its will published.', peer_closed: 'The client closed without a goodbye.', reset: 'The network reset the connection.', unreachable: 'The client could not be reached any more.',
    system: 'The system refused the broker.', keep_alive: 'Nothing came within one and a half keep alives.', taken_over: 'The same identifier connected again.', malformed: 'A packet was malformed.', protocol_error: 'The client broke the protocol.',
    limit: 'The client exceeded a limit.', aliases_too_long: 'Its topic aliases took too much memory.', connect_too_long: 'Its CONNECT was too long.', unjudged_bytes: 'Unknown peers held too much memory.', queue_full: 'The queue of its session was full.',
    rate: 'It published faster than it may.', slow_reader: 'It read too slowly.', memory: 'Memory was short.', authentication: 'It was not authenticated.', forbidden: 'The rules forbid what it did.', operator: 'An operator closed it.', stop: 'The broker stopped.',
    redirect: 'It was sent to another broker.', too_many_connections: 'There were too many connections.', address_limit: 'There were too many from its address.', banned: 'It is banned.', connect_timeout: 'No CONNECT came in time.', client_id: 'Its identifier is not allowed.',
    will: 'Its will is not allowed.', tls: 'It speaks TLS where MQTT is expected.', http: 'It speaks HTTP where MQTT is expected.', proxy: 'It begins with a PROXY header where none is expected.',
  },
  by: { client: 'the client', broker: 'the broker', operator: 'an operator', network: 'the network' },
};

/** A name of the API in words; one that this page does not know stays as it is. */
export const meaning = (kind, name) => {
  const text = MEANINGS[kind][name];
  return text === undefined ? name : t(text);
};
