// The page: who is signed in, the bar, the views as tabs, and the place in the address.

import { call, session, signIn } from './api.js';
import { el, fill, field, span, state } from './dom.js';
import { feed, start, stop } from './feed.js';
import * as overview from './overview.js';
import { chooseLanguage, language, t, wanted } from './text.js';

// Loaded when they are looked at, so that the first view is short.
const lists = () => import('./lists.js');
const operate = () => import('./operate.js');
const counters = async () => overview;

const VIEWS = [
  ['overview', () => t('Overview'), counters, 'overview'],
  ['shards', () => t('Shards'), counters, 'shards'],
  ['clients', () => t('Clients'), lists, 'clients'],
  ['subscriptions', () => t('Subscriptions'), lists, 'subscriptions'],
  ['retained', () => t('Retained'), lists, 'retained'],
  ['losses', () => t('Losses'), counters, 'losses'],
  ['closed', () => t('Closed'), lists, 'closed'],
  ['tool', () => t('Publish'), operate, 'tool'],
  ['configuration', () => t('Configuration'), operate, 'configuration'],
  ['log', () => t('Log'), operate, 'log'],
];

const app = document.getElementById('app');
const bar = document.getElementById('bar');
let current = null;
let status = null;

// Scheme.

const SCHEMES = ['auto', 'light', 'dark'];
const scheme = () => localStorage.getItem('mqtt-broker-scheme') ?? 'auto';
function applyScheme() {
  if (scheme() === 'auto') delete document.documentElement.dataset.scheme;
  else document.documentElement.dataset.scheme = scheme();
}

function drawBar() {
  document.documentElement.lang = language() === 'zh' ? 'zh-CN' : 'en';
  document.getElementById('skip').textContent = t('Skip to the content');
  const names = { auto: t('Scheme: as the system'), light: t('Scheme: light'), dark: t('Scheme: dark') };
  status = el('span', { class: 'status', id: 'status' });
  fill(bar,
    el('a', { class: 'brand', href: '#overview' }, el('img', { src: '/dashboard/icon.svg', alt: '', width: 22, height: 22 }), 'mqtt-broker'),
    status,
    el('div', { class: 'buttons' },
      el('button', { id: 'scheme', on: { click: () => {
        localStorage.setItem('mqtt-broker-scheme', SCHEMES[(SCHEMES.indexOf(scheme()) + 1) % SCHEMES.length]);
        applyScheme();
        drawBar();
        document.getElementById('scheme').focus();
      } } }, names[scheme()]),
      el('button', { id: 'language', lang: language() === 'zh' ? 'en' : 'zh-CN', on: { click: async () => {
        await chooseLanguage(language() === 'zh' ? 'en' : 'zh');
        draw();
        document.getElementById('language').focus();
      } } }, language() === 'zh' ? 'English' : '中文'),
      session.scope && el('button', { id: 'sign-out', on: { click: () => leave('') } }, t('Sign out'))));
  drawStatus();
}

function drawStatus() {
  if (!status) return;
  if (!session.scope) return void fill(status);
  const { now, fault } = feed;
  const [kind, text] = fault ? ['bad', t('no answer')] : !now ? ['', t('connecting…')] : now.journal === 'failed' ? ['bad', t('journal failed')] : now.journal === 'degraded' ? ['warn', t('journal degraded')] : ['good', t('serving')];
  return void fill(status, el('span', { class: `chip ${kind}` }, text),
    now && el('span', { class: 'quiet number wide-only' }, t('version {version}, up {span}', { version: now.version, span: span(now.uptime_s) })),
    el('span', { class: 'quiet wide-only' }, t('token {name}, scope {scope}', { name: session.name, scope: session.scope })));
}
feed.listeners.add(drawStatus);

// Signing in.

async function enter(token) {
  signIn(token);
  const { name, scope } = await call('/v1/token');
  Object.assign(session, { name, scope });
  start();
  draw();
}

function leave(why) {
  stop();
  end();
  signIn('');
  Object.assign(session, { name: '', scope: '' });
  draw(why);
}
session.onEnd = () => { if (session.scope) leave(t('This token was removed, or is not known any more.')); };

function drawEntry(why) {
  const token = el('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, spellcheck: 'false' });
  const fault = el('p', { class: 'fault', role: 'alert' }, why);
  const form = el('form', { class: 'entry', on: { submit: async (event) => {
    event.preventDefault();
    try {
      await enter(token.value.trim());
    } catch (error) {
      fill(fault, error.status === 401 ? t('This token is not known. Look whether all of it was copied.') : error.message);
      token.select();
    }
  } } },
  el('h1', null, t('Sign in')),
  el('p', null, t('A token opens this page. On the machine of the broker, this command makes one:')),
  el('pre', null, 'mqtt-broker token add NAME --scope read'),
  el('input', { type: 'text', class: 'hidden', autocomplete: 'username', value: 'mqtt-broker', tabindex: '-1', 'aria-hidden': 'true' }),
  field(t('Token'), token, t('read: see everything but payloads; operate: also publish and disconnect; admin: everything. This tab forgets it when it is closed.')),
  fault,
  el('button', { class: 'main' }, t('Sign in')));
  fill(app, el('main', { id: 'main', class: 'center', tabindex: '-1' }, form));
  token.focus();
}

// Views.

function place() {
  const [name, ...rest] = location.hash.slice(1).split('/');
  const view = VIEWS.find(([known]) => known === name) ?? VIEWS[0];
  return [view, rest.length ? [decodeURIComponent(rest.join('/'))] : []];
}

function end() {
  for (const last of current?.ends ?? []) last();
  current = null;
}

function draw(why = '') {
  drawBar();
  end();
  if (!session.scope) return drawEntry(why);
  const [[name]] = place();
  const tabs = VIEWS.map(([id, title]) => el('a', {
    role: 'tab', id: `tab-${id}`, href: `#${id}`, 'aria-selected': String(id === name), 'aria-controls': 'main', tabindex: id === name ? '0' : '-1',
  }, title()));
  const list = el('nav', { 'aria-label': t('Views') }, el('div', { class: 'tabs', role: 'tablist', 'aria-orientation': 'vertical', on: { keydown: move } }, tabs));
  fill(app, el('div', { class: 'frame' }, list, el('main', { id: 'main', role: 'tabpanel', tabindex: '-1' })));
  return show();
}

function move(event) {
  const tabs = [...event.currentTarget.children];
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const tab = tabs[(to + tabs.length) % tabs.length];
  tab.focus();
  location.hash = tab.getAttribute('href');
}

async function show() {
  end();
  const [[name, title, load, part], parameters] = place();
  for (const tab of document.querySelectorAll('[role=tab]')) {
    const isSelected = tab.id === `tab-${name}`;
    tab.setAttribute('aria-selected', String(isSelected));
    tab.tabIndex = isSelected ? 0 : -1;
    if (isSelected) tab.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }
  const main = document.getElementById('main');
  main.setAttribute('aria-labelledby', `tab-${name}`);
  const node = el('div', { class: 'view', 'data-view': name });
  fill(main, el('h1', null, title()), node);
  const view = { node, ends: [] };
  current = view;
  document.title = `${title()} · mqtt-broker`;
  const views = await load().catch(() => null);
  if (current !== view) return;
  if (!views) {
    // Its file did not come. A browser does not ask for it again before the page is loaded again.
    fill(node, state(t('No answer'), t('The broker does not answer. It may have stopped, or the network between you and it has a fault.'), 'error',
      el('p', null, el('button', { on: { click: () => location.reload() } }, t('Try again')))));
    return;
  }
  try {
    views[part](view, parameters);
  } catch (error) {
    fill(node, state(t('This view has a fault'), error.message, 'error'));
    throw error;
  }
}

window.addEventListener('hashchange', () => { if (session.scope) show(); });
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  document.getElementById('main').focus();
});

applyScheme();
await chooseLanguage(wanted());
if (session.token) enter(session.token).catch((error) => draw(error.status === 401 ? '' : error.message));
else draw();
