// The views of lists that are read page by page: clients, subscriptions, retained messages, ends of connections.

import { Fault, Pages, call, fromBase64, get, id, may } from './api.js';
import { bytes, confirm, el, facts, field, fill, loading, moment, none, panel, peer, say, span, state, table, whole } from './dom.js';
import { meaning, t } from './text.js';

const PAGE_ROWS = 100;

/**
 * A list with its search. `query` reads the form; `columns` and the rest are those of `table`. Pages are asked for as they are looked at,
 * so a broker with many rows is asked for as little.
 */
function list(view, { path, form, query, columns, empty, caption, open, labelOf }) {
  const box = el('div', null, loading());
  let pages;
  let at = 0;
  const show = async () => {
    box.setAttribute('aria-busy', 'true');
    const mine = pages;
    try {
      while (mine.rows.length <= (at + 1) * PAGE_ROWS && !mine.isWhole) {
        const before = mine.rows.length;
        await mine.take(PAGE_ROWS + 1);
        // A long search that has found nothing yet shows how far it is.
        if (mine.rows.length === before && !mine.isWhole) fill(box, state(t('Still searching…'), '', 'loading'));
      }
    } catch (error) {
      if (mine === pages && error.name !== 'AbortError') fill(box, state(t('The list cannot be shown'), error.message, 'error', el('button', { on: { click: search } }, t('Try again'))));
      return;
    }
    if (mine !== pages) return;
    box.removeAttribute('aria-busy');
    const rows = mine.rows.slice(at * PAGE_ROWS, (at + 1) * PAGE_ROWS);
    const more = mine.rows.length > (at + 1) * PAGE_ROWS;
    const count = mine.isWhole ? t('{from}–{to} of {count}', { from: whole(at * PAGE_ROWS + 1), to: whole(at * PAGE_ROWS + rows.length), count: whole(mine.rows.length) })
      : t('{from}–{to} of more', { from: whole(at * PAGE_ROWS + 1), to: whole(at * PAGE_ROWS + rows.length) });
    const turn = (step) => () => { at += step; show().then(() => box.querySelector('.scroll')?.focus()); };
    fill(box, table({ columns, rows, empty, caption, open, labelOf }),
      rows.length > 0 && el('div', { class: 'pager' },
        el('button', { disabled: at === 0, on: { click: turn(-1) } }, t('Previous')),
        el('span', { class: 'number' }, count),
        el('button', { disabled: !more, on: { click: turn(1) } }, t('Next'))));
  };
  const search = () => {
    pages?.stop();
    at = 0;
    pages = new Pages(path, query());
    show();
  };
  view.ends.push(() => pages?.stop());
  form?.addEventListener('submit', (event) => { event.preventDefault(); search(); });
  search();
  return { node: box, search };
}

function searchForm(...inputs) {
  return el('form', { class: 'search', role: 'search' }, inputs, el('button', { class: 'main' }, t('Search')));
}

const input = (name, placeholder) => el('input', { name, placeholder, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' });

export function clients(view, [clientId]) {
  if (clientId !== undefined) return client(view, clientId);
  const inputs = { prefix: input('prefix', 'pump-'), address: input('address', '10.1.2.0/24'), user: input('user', ''), listener: input('listener', '') };
  const form = searchForm(field(t('Identifier begins with'), inputs.prefix), field(t('Address or network'), inputs.address), field(t('User'), inputs.user), field(t('Listener'), inputs.listener));
  const number = (name, cell) => ({ name, cell, number: true });
  const shown = list(view, {
    path: '/v1/clients', form, caption: t('Clients that are connected'),
    query: () => Object.fromEntries(Object.entries(inputs).map(([name, one]) => [name, one.value.trim()])),
    empty: { title: t('No client'), text: t('No client that is connected fits this search.') },
    labelOf: (row) => row.client,
    open: (row) => { location.hash = `#clients/${id(row.client)}`; },
    columns: [
      { name: t('Client'), cell: (row) => peer(row.client), wide: true },
      { name: t('User'), cell: (row) => (row.user ? peer(row.user) : none()) },
      { name: t('Address'), cell: (row) => row.peer ?? '–' },
      { name: t('Listener'), cell: (row) => row.listener ?? '–' },
      { name: 'MQTT', cell: (row) => row.version ?? '–' },
      { name: t('Connected'), cell: (row) => moment(row.since_us) },
      number(t('Subscriptions'), (row) => whole(row.subscriptions)),
      number(t('In flight'), (row) => whole(row.inflight)),
      number(t('Queued'), (row) => whole(row.queued)),
      number(t('Waiting'), (row) => bytes(row.waiting_bytes)),
      number(t('Shard'), (row) => row.shard),
    ],
  });
  const exact = el('input', { name: 'exact', placeholder: 'pump-17', autocomplete: 'off', spellcheck: 'false' });
  const find = el('form', { class: 'search', on: { submit: (event) => { event.preventDefault(); if (exact.value) location.hash = `#clients/${id(exact.value)}`; } } },
    field(t('Exact identifier, connected or not'), exact), el('button', null, t('Open')));
  fill(view.node, el('div', { class: 'forms' }, form, find), shown.node);
  return undefined;
}

function client(view, clientId) {
  const box = el('div', null, loading());
  fill(view.node, el('p', { class: 'back' }, el('a', { href: '#clients' }, `← ${t('All clients')}`)), box);
  const show = async () => {
    let about;
    let subscriptions = [];
    try {
      about = await get(`/v1/clients/${id(clientId)}`);
      if (about.session) subscriptions = (await new Pages(`/v1/clients/${id(clientId)}/subscriptions`, {}).take(1000)).rows;
    } catch (error) {
      const isUnknown = error instanceof Fault && error.status === 404;
      fill(box, panel(peer(clientId), state(isUnknown ? t('Nothing is known of this client') : t('No answer'), isUnknown ? t('It has no session, and its last end is not among the 10,000 that are remembered.') : error.message, isUnknown ? 'empty' : 'error')));
      return;
    }
    const { session: it, last_end: end } = about;
    const ask = async (title, text, action, path, done) => {
      if (!(await confirm(title, text, action))) return;
      try {
        await call(path, { method: 'DELETE' });
        say(done);
      } catch (error) {
        say(error.message, 'bad');
      }
      setTimeout(show, 300);
    };
    const dropped = Object.entries(it?.dropped ?? {});
    fill(box,
      el('div', { class: 'title' }, el('h2', null, peer(clientId), ' ', el('span', { class: `chip ${it?.connected ? 'good' : ''}` }, it?.connected ? t('connected') : it ? t('away') : t('no session'))),
        el('div', { class: 'buttons' },
          it?.connected && may('operate') && el('button', { id: 'disconnect', on: { click: () => ask(t('Disconnect this client?'), t('Its connection is closed, and its session lives on. Most clients connect again.'), t('Disconnect'), `/v1/clients/${id(clientId)}`, t('The client is being disconnected.')) } }, t('Disconnect')),
          it && may('admin') && el('button', { class: 'danger', on: { click: () => ask(t('End this session?'), t('Its subscriptions and everything that waits for it are lost.'), t('End the session'), `/v1/sessions/${id(clientId)}`, t('The session has ended.')) } }, t('End the session')))),
      it && el('div', { class: 'halves' },
        panel(t('Connection'), it.connected ? facts([
          [t('Address'), it.peer], [t('User'), it.user && peer(it.user)], [t('Listener'), it.listener], [t('Version of MQTT'), it.version],
          [t('Connected'), moment(it.since_us)], [t('Keep alive'), it.keep_alive_s ? `${it.keep_alive_s} s` : t('none')], [t('Packets received'), whole(it.packets_received)], [t('Shard'), it.shard],
        ]) : state(t('Not connected'), t('Messages of QoS 1 and 2 wait in its queue.'))),
        panel(t('Session'), facts([
          [t('Outlives its connection'), it.expiry_s === 4294967295 ? t('for ever') : span(it.expiry_s)], [t('In flight'), whole(it.inflight)], [t('Queued'), whole(it.queued)],
          [t('Bytes waiting'), bytes(it.waiting_bytes)], [t('Messages matched'), whole(it.matched)], [t('Messages delivered'), whole(it.delivered)],
          [t('Messages lost'), dropped.length ? dropped.map(([name, count]) => el('div', null, whole(count), ' ', el('code', null, name))) : '0'],
        ]))),
      end && panel(end.was_let_in ? t('Its last connection ended') : t('It was refused last'), facts([
        [t('When'), moment(end.at_us)], [t('Reason'), [el('code', null, end.reason), ' ', meaning('cause', end.reason)]], [t('In words'), peer(end.why)], [t('By'), meaning('by', end.by)],
        [t('Address'), end.peer], [t('Lasted'), span(end.lasted_ms / 1000)], end.taken_over_by && [t('Taken over from'), end.taken_over_by],
      ])),
      it && panel(t('Subscriptions'), table({
        caption: t('Subscriptions'), rows: subscriptions, columns: subscriptionColumns(false),
        empty: { title: t('No subscriptions'), text: t('This client receives nothing.') },
      })));
  };
  show();
}

function subscriptionColumns(withClient) {
  return [
    withClient && { name: t('Client'), cell: (row) => peer(row.client), wide: true },
    { name: t('Filter'), cell: (row) => peer(row.filter), wide: true },
    { name: 'QoS', number: true, cell: (row) => row.qos },
    { name: t('Options'), cell: (row) => [row.no_local && 'no local', row.retain_as_published && 'retain as published', row.retain_handling > 0 && `retain handling ${row.retain_handling}`, row.identifier && `identifier ${row.identifier}`].filter(Boolean).join(', ') || '–' },
  ].filter(Boolean);
}

export function subscriptions(view) {
  const topic = input('topic', 'a/b/c');
  const answer = el('div');
  const form = el('form', { class: 'search', id: 'receivers' }, field(t('Who receives this topic?'), topic, t('A topic without wildcards')), el('button', { class: 'main' }, t('Find')));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (!topic.value) return;
    fill(answer, loading());
    try {
      const pages = await new Pages('/v1/receivers', { topic: topic.value }, 200).take(500);
      fill(answer, panel([t('Receivers of '), peer(topic.value)], table({
        caption: t('Receivers'), rows: pages.rows, labelOf: (row) => row.client, open: (row) => { location.hash = `#clients/${id(row.client)}`; },
        empty: { title: t('Nobody receives this topic'), text: t('No session has a subscription that matches it.') },
        columns: [
          { name: t('Client'), cell: (row) => peer(row.client), wide: true },
          { name: t('By the filter'), cell: (row) => peer(row.filter), wide: true },
          { name: t('Group'), cell: (row) => (row.group ? peer(row.group) : none()) },
          { name: 'QoS', number: true, cell: (row) => row.qos },
          { name: t('State'), cell: (row) => (row.may_read ? (row.connected ? t('connected') : t('away, its messages wait')) : t('the rules forbid it to read')) },
        ],
      }), !pages.isWhole && el('p', { class: 'quiet' }, t('More than 500; `mqtt-broker topics` lists all.'))));
    } catch (error) {
      fill(answer, state(t('No answer'), error.message, 'error'));
    }
  });
  const shown = list(view, {
    path: '/v1/subscriptions', query: () => ({}), caption: t('Subscriptions of all sessions'), columns: subscriptionColumns(true),
    labelOf: (row) => `${row.client} ${row.filter}`, open: (row) => { location.hash = `#clients/${id(row.client)}`; },
    empty: { title: t('No subscriptions'), text: t('No session subscribes to anything.') },
  });
  fill(view.node, form, answer, el('h2', null, t('Subscriptions of all sessions')), shown.node);
}

/** The bytes of a payload as text where they are text, and else in hexadecimal digits. */
export function payload(octets) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(octets);
  } catch {
    const lines = [];
    for (let at = 0; at < Math.min(octets.length, 4096); at += 16) {
      lines.push(`${at.toString(16).padStart(6, '0')}  ${[...octets.subarray(at, at + 16)].map((octet) => octet.toString(16).padStart(2, '0')).join(' ')}`);
    }
    return lines.join('\n') + (octets.length > 4096 ? '\n…' : '');
  }
}

export function retained(view) {
  const filter = input('filter', 'fleet/+/state');
  const form = searchForm(field(t('Topics that this filter matches'), filter, t('Wildcards + and # work; $SYS/# has the topics of the broker')));
  const detail = el('div');
  const shown = list(view, {
    path: '/v1/retained', form, caption: t('Retained messages'), query: () => ({ filter: filter.value.trim() }),
    labelOf: (row) => row.topic, open: (row) => message(row.topic),
    empty: { title: t('No retained messages'), text: t('No topic that fits this filter has one.') },
    columns: [
      { name: t('Topic'), cell: (row) => peer(row.topic), wide: true },
      { name: t('Size'), number: true, cell: (row) => bytes(row.payload_bytes) },
      { name: 'QoS', number: true, cell: (row) => row.qos },
      { name: t('Expires in'), cell: (row) => (row.expires_in_s === null ? t('never') : span(row.expires_in_s)) },
      { name: t('Published by'), cell: (row) => (row.user ? peer(row.user) : none()) },
    ],
  });
  async function message(topic) {
    if (!may('operate')) return say(t('Payloads need a token of the scope operate.'), 'bad');
    try {
      const { row, payload: content } = await get('/v1/retained/message', { topic });
      const clear = async () => {
        if (!(await confirm(t('Remove this retained message?'), t('New subscribers of the topic are sent nothing then.'), t('Remove')))) return;
        try {
          await call(`/v1/retained/message?${new URLSearchParams({ topic })}`, { method: 'DELETE' });
          say(t('The message was removed.'));
        } catch (error) {
          say(error.message, 'bad');
        }
        fill(detail);
        shown.search();
      };
      fill(detail, panel(peer(row.topic),
        content === null ? state(t('The payload is too long to be shown'), bytes(row.payload_bytes)) : el('pre', { class: 'payload', tabindex: '0' }, payload(fromBase64(content))),
        el('div', { class: 'buttons' }, el('button', { on: { click: () => fill(detail) } }, t('Close')), el('button', { class: 'danger', id: 'clear', on: { click: clear } }, t('Remove')))));
      detail.scrollIntoView({ block: 'nearest' });
    } catch (error) {
      say(error.message, 'bad');
    }
    return undefined;
  }
  fill(view.node, form, detail, shown.node);
}

export function closed(view) {
  const client = input('client', 'pump-17');
  const form = searchForm(field(t('Client identifier'), client, t('The last 10,000 ends are remembered')));
  const shown = list(view, {
    path: '/v1/closed', form, caption: t('Ends of connections'), query: () => ({ client: client.value }),
    empty: { title: t('No end of a connection is remembered'), text: t('Connections that were closed or refused since the start are listed here.') },
    columns: [
      { name: t('When'), cell: (row) => moment(row.at_us) },
      { name: t('Client'), cell: (row) => (row.client === null ? none() : el('a', { href: `#clients/${id(row.client)}` }, peer(row.client))), wide: true },
      { name: t('Reason'), cell: (row) => [el('span', { class: `chip ${row.was_let_in ? '' : 'warn'}` }, row.was_let_in ? t('closed') : t('refused')), ' ', el('code', null, row.reason)] },
      { name: t('In words'), cell: (row) => peer(row.why), wide: true },
      { name: t('By'), cell: (row) => meaning('by', row.by) },
      { name: t('Address'), cell: (row) => row.peer ?? '–' },
      { name: t('Lasted'), cell: (row) => span(row.lasted_ms / 1000), number: true },
    ],
  });
  fill(view.node, form, shown.node);
}
