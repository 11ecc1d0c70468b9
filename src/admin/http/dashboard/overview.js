// The views that follow the counters: overview, shards, losses.

import { Pages, get } from './api.js';
import { Chart } from './chart.js';
import { bytes, day, el, facts, fill, loading, meter, panel, peer, percent, rate, state, table, took, whole } from './dom.js';
import { busy, feed, follow, lost, perSecond, quantile, sum } from './feed.js';
import { meaning, t } from './text.js';

const or = (value, format) => (value === null || value === undefined ? '–' : format(value));
const busiest = () => {
  const shares = (feed.now?.shards ?? []).map((_, at) => busy(at)).filter((share) => share !== null);
  return shares.length ? Math.max(...shares) : null;
};

function tile(name, value, unit, below) {
  return el('div', { class: 'tile' }, el('h3', null, name), el('p', { class: 'value' }, el('span', { class: 'number' }, value), unit && el('small', null, ' ', unit)), below && el('div', { class: 'below' }, below));
}

/** Everything that an operator should look at, worst first; each is a level, a sentence and the view that tells more. */
function worries(certificates) {
  const { now } = feed;
  const found = [];
  if (now.journal === 'failed') found.push(['bad', t('The journal has failed: acknowledged messages may not survive a crash.'), 'log']);
  if (now.journal === 'degraded') found.push(['bad', t('The journal has no room, so clients wait.'), 'log']);
  const held = sum(now.memory);
  if (now.memory_bytes_max && held > 0.8 * now.memory_bytes_max) found.push(['bad', t('Memory is at {share} of its ceiling. Slow readers lose messages first.', { share: percent(held / now.memory_bytes_max) }), 'losses']);
  if (now.connections > 0.9 * now.connections_max) found.push(['warn', t('{count} of at most {max} connections are in use.', { count: whole(now.connections), max: whole(now.connections_max) }), 'clients']);
  const recent = (feed.series.lost ?? []).reduce((one, other) => one + (other ?? 0) * 2, 0);
  if (recent >= 1) found.push(['warn', t('About {count} messages were lost in the last minutes.', { count: whole(recent) }), 'losses']);
  const most = busiest();
  if (most !== null && most > 0.9) found.push(['warn', t('A shard is busy {share} of its time.', { share: percent(most) }), 'shards']);
  for (const row of certificates) {
    const days = Math.floor((row.ends_at_s - now.at_us / 1e6) / 86400);
    if (days < 14) found.push([days < 3 ? 'bad' : 'warn', days < 0 ? t('A certificate of {listener} has ended.', { listener: row.listener }) : t('A certificate of {listener} ends in {days} days, on {day}.', { listener: row.listener, days, day: day(row.ends_at_s) }), 'configuration']);
  }
  return found;
}

export function overview(view) {
  const tiles = el('div', { class: 'tiles' });
  const attention = el('div');
  const messages = new Chart(t('Messages a second'), rate, { least: 10 });
  const traffic = new Chart(t('Bytes a second'), (value) => `${bytes(value)}/s`, { isBytes: true });
  const latency = new Chart(t('From PUBLISH to its sends'), took, { least: 1e-4 });
  const losses = new Chart(t('Messages lost a second'), rate, { least: 1 });
  let certificates = [];
  const ask = () => get('/v1/certificates').then(({ rows }) => { certificates = rows; }).catch(() => {});
  ask();
  const timer = setInterval(ask, 60_000);
  view.ends.push(() => clearInterval(timer));
  fill(view.node, tiles, attention, el('div', { class: 'charts' }, [messages, traffic, latency, losses].map((chart) => chart.node)));
  follow(view, () => {
    const { now, times, series } = feed;
    if (!now) return void fill(tiles, feed.fault ? state(t('No answer'), feed.fault, 'error') : loading());
    const held = sum(now.memory);
    const most = busiest();
    fill(tiles,
      tile(t('Connections'), whole(now.connections), null, meter(now.connections / now.connections_max, t('of {max}', { max: whole(now.connections_max) }))),
      tile(t('Messages received'), or(perSecond((it) => it.totals.messages_received), rate), '/s', t('{count} in all', { count: whole(now.totals.messages_received) })),
      tile(t('Messages sent'), or(perSecond((it) => it.totals.messages_sent), rate), '/s', t('{count} in all', { count: whole(now.totals.messages_sent) })),
      tile(t('Latency, p99'), or(quantile('publish_to_flush', 0.99), took), null, t('median {time}', { time: or(quantile('publish_to_flush', 0.5), took) })),
      tile(t('Memory'), bytes(held), null, now.memory_bytes_max ? meter(held / now.memory_bytes_max, t('of {max}', { max: bytes(now.memory_bytes_max) })) : t('without a ceiling')),
      tile(t('Busiest shard'), or(most, percent), null, t('{count} shards', { count: now.shards.length })),
      tile(t('Sessions'), whole(now.totals.sessions), null, t('{count} subscriptions', { count: whole(now.totals.subscriptions) })),
      tile(t('Messages lost'), whole(lost(now)), null, or(perSecond(lost), (value) => `${rate(value)} /s`)));
    const found = worries(certificates);
    fill(attention, found.length
      ? el('ul', { class: 'worries' }, found.map(([level, text, target]) => el('li', { class: level }, el('a', { href: `#${target}` }, text))))
      : el('p', { class: 'fine' }, t('Nothing needs your attention.')));
    const line = (name, key, colour) => ({ name, colour, values: series[key] ?? [] });
    messages.update(times, [line(t('received'), 'received', 'c1'), line(t('sent'), 'sent', 'c2')]);
    traffic.update(times, [line(t('received'), 'bytesReceived', 'c1'), line(t('sent'), 'bytesSent', 'c2')]);
    latency.update(times, [line(t('median'), 'p50', 'c1'), line('p99', 'p99', 'c3')]);
    losses.update(times, [line(t('lost'), 'lost', 'c4')]);
    return undefined;
  });
}

export function shards(view) {
  const load = new Chart(t('Busy share of each shard'), percent, { least: 0.1 });
  const crossings = new Chart(t('Messages that cross to another shard, a second'), rate, { least: 1 });
  const list = el('div');
  const stages = el('div');
  fill(view.node, el('div', { class: 'charts' }, load.node, crossings.node), list, stages);
  follow(view, () => {
    const { now, before, shards: inside, times, series } = feed;
    if (!now || !inside) return void fill(list, feed.fault ? state(t('No answer'), feed.fault, 'error') : loading());
    load.update(times, now.shards.slice(0, 6).map((_, at) => ({ name: String(at), colour: `c${at + 1}`, values: series[`busy${at}`] ?? [] })));
    crossings.update(times, [{ name: t('crossed'), colour: 'c2', values: series.crossed ?? [] }]);
    const seconds = before ? (now.at_us - before.at_us) / 1e6 : 0;
    const growth = (at, name) => (seconds > 0 ? rate(Math.max(0, now.shards[at][name] - before.shards[at][name]) / seconds) : '–');
    const number = (name, cell, help) => ({ name, cell, help, number: true });
    fill(list, panel(t('Shards side by side'), table({
      caption: t('Shards side by side'),
      empty: { title: t('No shards'), text: '' },
      rows: now.shards.map((_, at) => at),
      columns: [
        { name: t('Shard'), cell: (at) => at },
        { name: t('Busy'), cell: (at) => (busy(at) === null ? '–' : meter(busy(at), percent(busy(at)))), help: t('Share of the last two seconds in which its thread worked') },
        number(t('Latency, p99'), (at) => or(quantile('publish_to_flush', 0.99, at), took), t('From PUBLISH to its sends')),
        number(t('Connections'), (at) => whole(now.shards[at].connections)),
        number(t('Sessions'), (at) => whole(now.shards[at].sessions)),
        number(t('Received/s'), (at) => growth(at, 'messages_received')),
        number(t('Sent/s'), (at) => growth(at, 'messages_sent')),
        number(t('Crossed/s'), (at) => growth(at, 'messages_forwarded'), t('Messages forwarded to other shards')),
        number(t('For nothing/s'), (at) => growth(at, 'crossed_for_nothing'), t('Messages of other shards without a subscriber here')),
        number(t('In lanes'), (at) => bytes(inside.shards[at].memory.lanes), t('Bytes that wait for a lane to another shard or for the log')),
        number(t('Handed over'), (at) => whole(now.shards[at].handed_over), t('Connections handed over to the shard of their session')),
        number(t('Wake-ups/s'), (at) => growth(at, 'parked_wakes')),
        number(t('Turn, p99'), (at) => or(quantile('turn', 0.99, at), took)),
        number(t('Memory'), (at) => bytes(now.shards[at].memory)),
      ],
    })));
    const kinds = Object.entries(now.memory).filter(([, held]) => held > 0).sort((one, other) => other[1] - one[1]);
    const total = sum(now.memory);
    fill(stages, el('div', { class: 'halves' },
      panel(t('Times of stages, over all shards'), table({
        caption: t('Times of stages, over all shards'),
        empty: { title: '', text: '' },
        rows: ['turn', 'publish_to_flush', 'auth', 'handshake', 'persist'],
        columns: [
          { name: t('Stage'), cell: (stage) => meaning('stage', stage) },
          number(t('Median'), (stage) => or(quantile(stage, 0.5), took)),
          number('p99', (stage) => or(quantile(stage, 0.99), took)),
          number(t('In all'), (stage) => whole(inside.shards.reduce((count, shard) => count + (shard.stages[stage] ?? []).reduce((a, b) => a + b, 0), 0))),
        ],
      })),
      panel(t('Memory by purpose'), table({
        caption: t('Memory by purpose'),
        empty: { title: t('No memory is held'), text: '' },
        rows: kinds,
        columns: [{ name: t('Purpose'), cell: ([kind]) => meaning('memory', kind) }, { name: t('Share'), cell: ([, held]) => meter(held / total, percent(held / total), ' ') }, number(t('Bytes'), ([, held]) => bytes(held))],
      }))));
    return undefined;
  });
}

function reasons(title, counts, earlier, seconds, kind, empty) {
  const rows = Object.entries(counts).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  const most = rows[0]?.[1] ?? 1;
  return panel(title, table({
    caption: title,
    rows,
    empty,
    columns: [
      { name: t('Reason'), cell: ([name]) => [el('code', null, name), el('div', { class: 'quiet' }, meaning(kind, name))], wide: true },
      { name: '', cell: ([, count]) => meter(count / most, '', ' ') },
      { name: t('Count'), number: true, cell: ([, count]) => whole(count) },
      { name: t('A second'), number: true, cell: ([name, count]) => (seconds > 0 ? rate((count - (earlier[name] ?? 0)) / seconds) : '–') },
    ],
  }));
}

export function losses(view) {
  const slow = el('div', null, loading());
  const rest = el('div');
  fill(view.node, slow, rest);
  let pages;
  const look = async () => {
    pages?.stop();
    pages = new Pages('/v1/clients', { waiting: 'true' }, 400);
    try {
      await pages.take(2000);
    } catch (error) {
      if (error.name !== 'AbortError') fill(slow, panel(t('Slow subscribers'), state(t('No answer'), error.message, 'error')));
      return;
    }
    const rows = pages.rows.sort((one, other) => other.waiting_bytes - one.waiting_bytes).slice(0, 20);
    fill(slow, panel(t('Slow subscribers'), table({
      caption: t('Slow subscribers'),
      rows,
      empty: { title: t('No client is behind'), text: t('Nothing waits for a client that is connected.') },
      labelOf: (row) => row.client,
      open: (row) => { location.hash = `#clients/${encodeURIComponent(row.client)}`; },
      columns: [
        { name: t('Client'), cell: (row) => peer(row.client), wide: true },
        { name: t('Bytes waiting'), number: true, cell: (row) => bytes(row.waiting_bytes) },
        { name: t('Queued'), number: true, cell: (row) => whole(row.queued) },
        { name: t('In flight'), number: true, cell: (row) => whole(row.inflight) },
        { name: t('Lost'), number: true, cell: (row) => whole(sum(row.dropped)) },
        { name: t('Address'), cell: (row) => row.peer ?? '–' },
      ],
    })));
  };
  look();
  const timer = setInterval(look, 10_000);
  view.ends.push(() => { clearInterval(timer); pages?.stop(); });
  follow(view, () => {
    const { now, before } = feed;
    if (!now) return void fill(rest, feed.fault ? state(t('No answer'), feed.fault, 'error') : loading());
    const seconds = before ? (now.at_us - before.at_us) / 1e6 : 0;
    const group = (title, name, kind, empty) => reasons(title, now[name], before?.[name] ?? {}, seconds, kind, empty);
    fill(rest,
      group(t('Messages dropped, by reason'), 'dropped', 'drop', { title: t('No message was lost'), text: t('Every message that matched a session has reached it or waits for it.') }),
      el('div', { class: 'halves' },
        group(t('Connections closed, by reason'), 'closed', 'cause', { title: t('No connection has ended'), text: t('since the broker started.') }),
        group(t('Connections refused, by reason'), 'refused', 'cause', { title: t('No connection was refused'), text: t('since the broker started.') })),
      panel(t('Refused by rules and limits'), facts([
        [t('Publishes that rules forbid'), whole(now.totals.publishes_forbidden)],
        [t('Subscriptions that rules forbid'), whole(now.totals.subscriptions_forbidden)],
        [t('Messages that a subscriber may not read'), whole(now.totals.reads_denied)],
        [t('Publishes refused for lack of room'), whole(now.totals.publishes_refused)],
        [t('Pauses of clients that published too fast'), whole(now.totals.rate_pauses)],
      ])));
    return undefined;
  });
}
