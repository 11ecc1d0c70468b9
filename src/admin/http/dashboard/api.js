// The way to /v1: the token, its refusal, pages of lists, and faults in plain words.

import { t } from './text.js';

const KEY = 'mqtt-broker-token';

export const session = { token: sessionStorage.getItem(KEY) ?? '', scope: '', name: '', onEnd: () => {} };

const SCOPES = ['read', 'operate', 'admin'];
export const may = (scope) => SCOPES.indexOf(session.scope) >= SCOPES.indexOf(scope);

export function signIn(token) {
  session.token = token;
  if (token) sessionStorage.setItem(KEY, token); else sessionStorage.removeItem(KEY);
}

/** A refusal, or a broker that does not answer. `message` is for people. */
export class Fault extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** One call. Its fault has the broker's own sentence where there is one. */
export async function call(path, { method = 'GET', body, signal } = {}) {
  const headers = { Authorization: `Bearer ${session.token}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Fault(0, t('The broker does not answer. It may have stopped, or the network between you and it has a fault.'));
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) {
    signIn('');
    session.onEnd();
  }
  throw new Fault(response.status, response.status === 403
    ? t('This token may not do that: it needs a token of a greater scope.')
    : answer.error ?? `HTTP ${response.status}`);
}

export const get = (path, parameters = {}, signal) => {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '' && value !== undefined && value !== null));
  return call(query.size ? `${path}?${query}` : path, { signal });
};

/**
 * A list that is read page by page. `take(count)` resolves to the rows at hand and whether there are more; an answer of the broker may
 * be empty although more follow, so it asks on, at most `asksMax` times a call.
 */
export class Pages {
  constructor(path, parameters, asksMax = 60) {
    Object.assign(this, { path, parameters, asksMax, rows: [], next: '', isWhole: false });
    this.abort = new AbortController();
  }

  async take(count) {
    const wanted = this.rows.length + count;
    for (let asks = 0; this.rows.length < wanted && !this.isWhole && asks < this.asksMax; asks += 1) {
      const page = await get(this.path, { ...this.parameters, next: this.next }, this.abort.signal);
      this.rows.push(...page.rows);
      this.next = page.next ?? '';
      this.isWhole = !page.next;
    }
    return this;
  }

  stop() {
    this.abort.abort();
  }
}

export const id = (text) => encodeURIComponent(text);

export function toBase64(octets) {
  let text = '';
  for (let at = 0; at < octets.length; at += 8192) text += String.fromCharCode(...octets.subarray(at, at + 8192));
  return btoa(text);
}

export const fromBase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
