// The views to try the broker and to look into it: publish and subscribe, configuration and certificates, the log.

import { Pages, get, may, session } from './api.js';
import { day, el, field, fill, loading, panel, peer, say, state, table } from './dom.js';
import { payload } from './lists.js';
import { Client } from './mqtt.js';
import { t } from './text.js';

const MESSAGES_MAX = 200;
const SHOWN_BYTES_MAX = 2000;

/** A reason code of MQTT in words. */
function because({ code, why }) {
  const words = {
    0x80: t('a fault that is not named'), 0x83: t('the broker does not take it'), 0x86: t('the token is wrong, or has ended'), 0x87: t('it is not allowed'),
    0x8f: t('the filter is not valid'), 0x90: t('the topic is not valid'), 0x97: t('a limit is reached'), 0x98: t('an operator has closed the connection'), 0x8b: t('the broker stops'),
  };
  const hex = `0x${(code ?? 0).toString(16).padStart(2, '0')}`;
  return [words[code] ?? hex, why && ` (${why})`].filter(Boolean).join('');
}

export function tool(view) {
  if (!may('operate')) {
    fill(view.node, state(t('This token reads only'), t('Messages have payloads, so this tool needs a token of the scope operate: mqtt-broker token add NAME --scope operate')));
    return;
  }
  let client = null;
  const filters = new Map();
  const status = el('span', { class: 'chip', id: 'tool-state', role: 'status' }, t('not connected'));
  const connect = el('button', { id: 'tool-connect', class: 'main' }, t('Connect'));
  const filter = el('input', { name: 'filter', value: '#', autocomplete: 'off', spellcheck: 'false' });
  const filterQos = qosList('subscribe-qos');
  const subscribed = el('div', { class: 'chips' });
  const topic = el('input', { name: 'topic', placeholder: 'test/hello', autocomplete: 'off', spellcheck: 'false' });
  const content = el('textarea', { name: 'payload', rows: '4', spellcheck: 'false' });
  const qos = qosList('publish-qos', 1);
  const retain = el('input', { type: 'checkbox', name: 'retain' });
  const log = el('div', { class: 'messages', role: 'log', 'aria-label': t('Messages received'), tabindex: '0' });
  const nothing = () => fill(log, state(t('No message yet'), t('Connect, subscribe to a filter, and what is published appears here.')));
  nothing();

  const closed = (text) => {
    client = null;
    filters.clear();
    chips();
    fill(status, text ?? t('not connected'));
    status.className = text ? 'chip bad' : 'chip';
    connect.textContent = t('Connect');
  };
  const open = () => {
    const mine = new Client(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/mqtt`, {
      clientId: `dashboard-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`, username: session.name, password: session.token,
    }, {
      open: () => {
        fill(status, t('connected'));
        status.className = 'chip good';
        connect.textContent = t('Disconnect');
      },
      message: (name, octets, { qos: quality, retain: kept }) => {
        if (filters.size === 0) return;
        if (log.querySelector('.state')) fill(log);
        const cut = octets.length > SHOWN_BYTES_MAX;
        log.prepend(el('article', null,
          el('header', null, peer(name), el('span', { class: 'quiet number' }, ` QoS ${quality}${kept ? ` · ${t('retained')}` : ''} · ${octets.length} B · ${new Date().toLocaleTimeString()}`)),
          el('pre', null, payload(cut ? octets.subarray(0, SHOWN_BYTES_MAX) : octets), cut && '…')));
        while (log.children.length > MESSAGES_MAX) log.lastChild.remove();
      },
      end: (code, why) => {
        if (client === mine) closed(code === null ? t('The connection was lost, or the broker does not serve MQTT here.') : t('Refused: {reason}', { reason: because({ code, why }) }));
      },
    });
    client = mine;
    fill(status, t('connecting…'));
    connect.textContent = t('Disconnect');
  };
  connect.addEventListener('click', () => {
    if (!client) return open();
    const ending = client;
    closed();
    return ending.end();
  });
  const needs = () => {
    if (client) return true;
    say(t('Connect first.'), 'bad');
    return false;
  };
  const chips = () => fill(subscribed, [...filters].map(([name]) => el('button', {
    class: 'chip', 'aria-label': t('Unsubscribe from {filter}', { filter: name }),
    on: { click: () => { client?.unsubscribe(name); filters.delete(name); chips(); } },
  }, peer(name), ' ×')));
  const subscribe = async (event) => {
    event.preventDefault();
    if (!needs() || !filter.value) return;
    const name = filter.value;
    filters.set(name, true);
    const answer = await client.subscribe(name, Number(filterQos.value));
    if (answer.code >= 0x80) {
      filters.delete(name);
      say(t('Not subscribed: {reason}', { reason: because(answer) }), 'bad');
    }
    chips();
  };
  const publish = async (event) => {
    event.preventDefault();
    if (!needs()) return;
    const answer = await client.send0or1(topic.value, new TextEncoder().encode(content.value), Number(qos.value), retain.checked);
    if (answer.code >= 0x80) say(t('Not published: {reason}', { reason: because(answer) }), 'bad');
    else if (answer.code === 0x10) say(t('Published; nobody subscribes to it.'));
    else say(t('Published.'));
  };
  view.ends.push(() => client?.end());
  fill(view.node,
    el('div', { class: 'title' }, el('p', { class: 'quiet' }, t('A client of MQTT in this page, over WebSocket, with your token as its password.')), el('div', { class: 'buttons' }, status, connect)),
    el('div', { class: 'halves' },
      panel(t('Subscribe'), el('form', { class: 'stack', id: 'subscribe', on: { submit: subscribe } }, field(t('Topic filter'), filter), field('QoS', filterQos), el('button', null, t('Subscribe'))), subscribed),
      panel(t('Publish'), el('form', { class: 'stack', id: 'publish', on: { submit: publish } }, field(t('Topic'), topic), field(t('Payload'), content), field('QoS', qos), el('label', { class: 'check' }, retain, ' ', t('Retain the message')), el('button', { class: 'main' }, t('Publish'))))),
    panel(t('Messages received'), el('div', { class: 'buttons' }, el('button', { on: { click: nothing } }, t('Clear the list'))), log));
}

const qosList = (name, most = 2) => el('select', { name }, [0, 1, 2].slice(0, most + 1).map((qos) => el('option', { value: qos }, qos)));

export function configuration(view) {
  const certificates = el('div', null, loading());
  const keys = el('div', null, loading());
  const filter = el('input', { name: 'key', placeholder: 'queue', autocomplete: 'off', spellcheck: 'false', type: 'search' });
  const onlyGiven = el('input', { type: 'checkbox', name: 'given' });
  fill(view.node, certificates, el('form', { class: 'search', on: { submit: (event) => event.preventDefault() } }, field(t('Key or value contains'), filter), el('label', { class: 'check' }, onlyGiven, ' ', t('Only what is not a default'))), keys);
  const now = Date.now() / 1000;
  get('/v1/certificates').then(({ rows }) => fill(certificates, panel(t('Certificates'), table({
    caption: t('Certificates'), rows: rows.sort((one, other) => one.ends_at_s - other.ends_at_s),
    empty: { title: t('No certificates'), text: t('No listener has TLS, and neither has this page.') },
    columns: [
      { name: t('Listener'), cell: (row) => row.listener },
      { name: t('Kind'), cell: (row) => (row.is_list ? t('list of revoked ones') : t('certificate')) },
      { name: t('File'), cell: (row) => peer(row.file), wide: true },
      { name: t('Ends on'), cell: (row) => day(row.ends_at_s) },
      { name: t('Days left'), number: true, cell: (row) => {
        const days = Math.floor((row.ends_at_s - now) / 86400);
        return el('span', { class: `chip ${days < 3 ? 'bad' : days < 14 ? 'warn' : 'good'}` }, days < 0 ? t('ended') : days);
      } },
    ],
  })))).catch((error) => fill(certificates, panel(t('Certificates'), state(t('No answer'), error.message, 'error'))));
  new Pages('/v1/config', {}, 400).take(100_000).then(({ rows }) => {
    const classes = {
      live: t('while it runs'), 'restart; content of the file: live': t('at a restart; its file while it runs'),
      'restart; content of the file: new connections': t('at a restart; its files for new connections'), restart: t('at a restart'),
    };
    const show = () => {
      const text = filter.value.trim().toLowerCase();
      const fits = rows.filter((row) => (!onlyGiven.checked || row.origin !== 'default') && (!text || row.key.includes(text) || row.value.toLowerCase().includes(text)));
      fill(keys, panel(t('Configuration in force'), table({
        caption: t('Configuration in force'), rows: fits,
        empty: { title: t('No key fits'), text: t('Change the search to see more.') },
        columns: [
          { name: t('Key'), cell: (row) => el('code', null, row.key), wide: true },
          { name: t('Value'), cell: (row) => el('code', null, peer(row.value)), wide: true },
          { name: t('Comes from'), cell: (row) => (row.origin === 'default' ? el('span', { class: 'quiet' }, t('default')) : peer(row.origin)), wide: true },
          { name: t('A change takes effect'), cell: (row) => classes[row.class] ?? row.class },
        ],
      })));
    };
    filter.addEventListener('input', show);
    onlyGiven.addEventListener('change', show);
    show();
  }).catch((error) => fill(keys, state(t('No answer'), error.message, 'error')));
}

const LINES_SHOWN_MAX = 1000;

export function log(view) {
  const lines = el('div', { class: 'log', role: 'log', tabindex: '0', 'aria-label': t('Last lines of the log') });
  const filter = el('input', { name: 'text', type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'closed' });
  const level = el('select', { name: 'level' }, [['', t('all levels')], ['WARN', t('warnings and errors')], ['ERROR', t('errors')]].map(([value, name]) => el('option', { value }, name)));
  const isFollowing = el('input', { type: 'checkbox', checked: true, name: 'follow' });
  const note = el('p', { class: 'quiet' }, t('The last lines of the log, as the broker keeps them in memory; its file or the journal of the system has all.'));
  let next = '';
  let kept = [];
  const levelOf = (line) => /\b(ERROR|WARN|INFO|DEBUG|TRACE)\b/.exec(line.slice(0, 120))?.[1] ?? 'INFO';
  const show = () => {
    const text = filter.value.toLowerCase();
    const wanted = { '': ['ERROR', 'WARN', 'INFO', 'DEBUG', 'TRACE'], WARN: ['ERROR', 'WARN'], ERROR: ['ERROR'] }[level.value];
    const fits = kept.filter((row) => wanted.includes(levelOf(row.line)) && (!text || row.line.toLowerCase().includes(text)));
    if (fits.length === 0) fill(lines, state(t('No lines'), kept.length ? t('No line fits this search.') : t('The log has no lines, or its level is off.')));
    else fill(lines, fits.map((row) => el('div', { class: levelOf(row.line).toLowerCase() }, row.line)));
    if (isFollowing.checked) lines.scrollTop = lines.scrollHeight;
  };
  const read = async () => {
    if (document.hidden) return;
    try {
      const before = kept;
      let rows;
      // Pages until the newest line.
      for (let asks = 0; asks < 16 && (asks === 0 || rows.length > 0); asks += 1) {
        ({ rows, next } = await get('/v1/log', { next }));
        kept = kept.concat(rows).slice(-LINES_SHOWN_MAX);
      }
      if (kept.length !== before.length || kept[0] !== before[0] || kept.length === 0) show();
    } catch (error) {
      if (error.status !== 401) fill(lines, state(t('No answer'), error.message, 'error'));
    }
  };
  filter.addEventListener('input', show);
  level.addEventListener('change', show);
  isFollowing.addEventListener('change', show);
  fill(view.node, el('form', { class: 'search', on: { submit: (event) => event.preventDefault() } }, field(t('Line contains'), filter), field(t('Level'), level), el('label', { class: 'check' }, isFollowing, ' ', t('Follow'))), lines, note);
  read();
  const timer = setInterval(read, 2000);
  view.ends.push(() => clearInterval(timer));
}
