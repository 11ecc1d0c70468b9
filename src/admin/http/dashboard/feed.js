// The counters of the broker, read every two seconds, and their rates over the last five minutes.

import { get } from './api.js';

const EVERY_MS = 2000;
const KEPT = 151;

/** The samples at hand: `now`, `before`, and the series of rates by name. */
export const feed = {
  now: null, before: null, shards: null, shardsBefore: null, fault: null,
  times: [], series: {}, listeners: new Set(), timer: 0,
};

/** The growth of a counter in a second, since the last sample; `null` before there are two. */
export function perSecond(of) {
  const { now, before } = feed;
  if (!now || !before) return null;
  const seconds = (now.at_us - before.at_us) / 1e6;
  return seconds > 0 ? Math.max(0, of(now) - of(before)) / seconds : null;
}

export const sum = (counts) => Object.values(counts).reduce((one, other) => one + other, 0);
/** Messages that were lost: those that moved to another session are counted there again. */
export const lost = (statistics) => sum(statistics.dropped) - (statistics.dropped.moved ?? 0);

/** The share of the last interval in which the thread of a shard worked; `null` if the system does not tell. */
export function busy(shard) {
  const now = feed.now?.shards[shard];
  const before = feed.before?.shards[shard];
  if (!now || !before || now.lived_us === undefined) return null;
  const lived = now.lived_us - before.lived_us;
  return lived > 0 ? Math.min(1, (now.worked_us - before.worked_us) / lived) : null;
}

/**
 * The time of a stage that this share of its occurrences in the last interval did not exceed, in seconds, on one shard or all. Within a
 * bucket it is interpolated. `null` if there was none.
 */
export function quantile(stage, share, shard) {
  const { shards, shardsBefore } = feed;
  if (!shards || !shardsBefore) return null;
  const bounds = shards.bounds_us;
  const counts = new Array(bounds.length + 1).fill(0);
  shards.shards.forEach((one, at) => {
    if (shard !== undefined && at !== shard) return;
    const earlier = shardsBefore.shards[at]?.stages[stage] ?? [];
    (one.stages[stage] ?? []).forEach((count, bucket) => { counts[bucket] += Math.max(0, count - (earlier[bucket] ?? 0)); });
  });
  const total = counts.reduce((one, other) => one + other, 0);
  if (total === 0) return null;
  let left = total * share;
  for (let at = 0; at < counts.length; at += 1) {
    if (counts[at] > 0 && left <= counts[at]) {
      const low = at === 0 ? 0 : bounds[at - 1];
      const high = bounds[at] ?? bounds[bounds.length - 1] * 2;
      return (low + ((high - low) * left) / counts[at]) / 1e6;
    }
    left -= counts[at];
  }
  return bounds[bounds.length - 1] / 1e6;
}

const SERIES = {
  received: () => perSecond((it) => it.totals.messages_received),
  sent: () => perSecond((it) => it.totals.messages_sent),
  bytesReceived: () => perSecond((it) => it.totals.bytes_received),
  bytesSent: () => perSecond((it) => it.totals.bytes_sent),
  crossed: () => perSecond((it) => it.totals.messages_forwarded),
  lost: () => perSecond(lost),
  p50: () => quantile('publish_to_flush', 0.5),
  p99: () => quantile('publish_to_flush', 0.99),
};

async function sample() {
  if (document.hidden) return;
  try {
    const [statistics, shards] = await Promise.all([get('/v1/statistics'), get('/v1/shards')]);
    // A broker that was started anew counts from 0.
    const isSame = feed.now && feed.now.uptime_s <= statistics.uptime_s;
    feed.before = isSame ? feed.now : null;
    feed.shardsBefore = isSame ? feed.shards : null;
    feed.now = statistics;
    feed.shards = shards;
    feed.fault = null;
    feed.times.push(statistics.at_us / 1000);
    for (const [name, of] of Object.entries(SERIES)) (feed.series[name] ??= []).push(of());
    for (let at = 0; at < statistics.shards.length; at += 1) (feed.series[`busy${at}`] ??= []).push(busy(at));
    if (feed.times.length > KEPT) {
      feed.times.shift();
      for (const values of Object.values(feed.series)) values.shift();
    }
  } catch (error) {
    if (error.status === 401) return;
    feed.fault = error.message;
  }
  for (const listener of feed.listeners) listener();
}

export function start() {
  stop();
  const turn = async () => {
    await sample();
    if (feed.timer) feed.timer = setTimeout(turn, EVERY_MS);
  };
  feed.timer = 1;
  turn();
}

export function stop() {
  clearTimeout(feed.timer);
  feed.timer = 0;
  Object.assign(feed, { now: null, before: null, shards: null, shardsBefore: null, fault: null, times: [], series: {} });
}

document.addEventListener('visibilitychange', () => { if (!document.hidden && feed.timer) sample(); });

/** Calls `draw` now and with each sample, until the view ends. */
export function follow(view, draw) {
  feed.listeners.add(draw);
  view.ends.push(() => feed.listeners.delete(draw));
  draw();
}
