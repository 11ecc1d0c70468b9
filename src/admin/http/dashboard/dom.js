// Elements, tables, numbers and times. Every text goes in by textContent or an attribute, so a peer's text is never markup.

import { language, t } from './text.js';

/** An element. `props` are attributes; `on` has listeners; children are nodes or texts, and false ones are left out. */
export function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === 'value') {
      node.value = value;
    } else {
      node.setAttribute(name, value === true ? '' : value);
    }
  }
  append(node, children);
  return node;
}

/** An element of SVG. */
export function svg(tag, props, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(props ?? {})) node.setAttribute(name, value);
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child.nodeType ? child : document.createTextNode(String(child)));
  }
}

export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

// Numbers.

export const whole = (number) => new Intl.NumberFormat(language(), { maximumFractionDigits: 0 }).format(number ?? 0);

export function rate(number) {
  const digits = number > 0 && number < 10 ? 1 : 0;
  return new Intl.NumberFormat(language(), { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(number);
}

export function percent(share) {
  return new Intl.NumberFormat(language(), { style: 'percent', maximumFractionDigits: share < 0.1 ? 1 : 0 }).format(share);
}

export function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let value = number ?? 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  const digits = at > 0 && value < 10 ? 1 : 0;
  return `${new Intl.NumberFormat(language(), { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value)} ${units[at]}`;
}

/** A time that something took, from seconds. */
export function took(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return '–';
  if (seconds === 0) return '0';
  const [value, unit] = seconds < 1e-3 ? [seconds * 1e6, 'µs'] : seconds < 1 ? [seconds * 1e3, 'ms'] : [seconds, 's'];
  const digits = value < 10 ? 1 : 0;
  return `${new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(value)} ${unit}`;
}

/** A span of time in its two largest units. */
export function span(seconds) {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  let left = Math.max(0, Math.floor(seconds));
  const first = parts.findIndex(([unit]) => left >= unit);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).map(([unit, name]) => {
    const count = Math.floor(left / unit);
    left -= count * unit;
    return count || unit === parts[first][0] ? `${count} ${name}` : '';
  }).filter(Boolean).join(' ');
}

export function moment(us) {
  if (!us) return '–';
  const date = new Date(us / 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  const form = isToday ? { timeStyle: 'medium' } : { dateStyle: 'medium', timeStyle: 'medium' };
  return new Intl.DateTimeFormat(language(), form).format(date);
}

export const day = (seconds) => new Intl.DateTimeFormat(language(), { dateStyle: 'long' }).format(new Date(seconds * 1000));

/** A text of a peer as it can be shown on one line: control characters have pictures of their own, directions are isolated. */
export function peer(text) {
  // eslint-disable-next-line no-control-regex
  const shown = String(text ?? '').replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/\u007f/g, '\u2421');
  return el('bdi', { class: 'peer', title: shown.length > 48 ? shown : null }, shown === '' ? t('(empty)') : shown);
}

export const none = () => el('span', { class: 'quiet' }, '–');

// Tables.

/**
 * A table. Columns are `{ name, cell, number, wide }`; `cell` makes the content of a row. `open` is called with the row of a click or
 * of Enter; `empty` says what it means that there is no row.
 */
export function table({ columns, rows, empty, open, caption, labelOf }) {
  if (rows.length === 0) return state(empty.title, empty.text);
  const head = el('tr', null, columns.map((column) => el('th', { scope: 'col', class: column.number ? 'number' : null, title: column.help }, column.name)));
  const body = rows.map((row) => {
    const line = el('tr', open ? {
      class: 'opens', tabindex: '0', role: 'link', 'aria-label': labelOf?.(row),
      on: {
        click: () => open(row),
        keydown: (event) => { if (event.key === 'Enter') open(row); moveRow(event); },
      },
    } : null, columns.map((column, at) => {
      const props = { class: column.number ? 'number' : column.wide ? 'wide' : null, 'data-name': column.name };
      return el(at === 0 && !open ? 'th' : 'td', at === 0 && !open ? { ...props, scope: 'row' } : props, column.cell(row));
    }));
    return line;
  });
  return el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    el('table', null, el('caption', { class: 'hidden' }, caption), el('thead', null, head), el('tbody', null, body)));
}

function moveRow(event) {
  const step = { ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling' }[event.key];
  if (!step) return;
  event.preventDefault();
  event.currentTarget[step]?.focus();
}

/** A state in plain words: nothing here, something went wrong, still coming. */
export function state(title, text, kind = 'empty', ...more) {
  return el('div', { class: `state ${kind}`, role: kind === 'error' ? 'alert' : null }, el('strong', null, title), text && el('p', null, text), more);
}

export const loading = () => el('div', { class: 'state loading', 'aria-busy': 'true' }, el('p', null, t('Loading…')));

export function panel(title, ...children) {
  return el('section', { class: 'panel' }, title && el('h2', null, title), children);
}

export function facts(pairs) {
  return el('dl', { class: 'facts' }, pairs.filter(Boolean).map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value ?? none()))));
}

/** A bar of a share between 0 and 1, with its number beside it. */
export function meter(share, label, level) {
  const width = Math.max(0, Math.min(1, share || 0));
  const kind = level ?? (width > 0.9 ? 'bad' : width > 0.75 ? 'warn' : '');
  const fillBar = el('span', { class: `fill ${kind}` });
  fillBar.style.width = `${width * 100}%`;
  return el('span', { class: 'meter' }, el('span', { class: 'track', 'aria-hidden': 'true' }, fillBar), el('span', { class: 'number' }, label));
}

export function field(label, input, help) {
  const id = input.id || `f${(field.count = (field.count ?? 0) + 1)}`;
  input.id = id;
  if (help) input.setAttribute('aria-describedby', `${id}-help`);
  return el('div', { class: 'field' }, el('label', { for: id }, label), input, help && el('small', { id: `${id}-help` }, help));
}

/** Asks before something that cannot be undone. Resolves to whether it was confirmed. */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    const dialog = el('dialog', { class: 'ask', 'aria-labelledby': 'ask-title' },
      el('h2', { id: 'ask-title' }, title),
      el('p', null, text),
      el('form', { method: 'dialog', class: 'buttons' },
        el('button', { value: 'no' }, t('Cancel')),
        el('button', { value: 'yes', class: 'danger' }, action)));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Says something for some seconds, also to a screen reader. */
export function say(text, kind = 'good') {
  const note = el('div', { class: `notice ${kind}` }, text);
  document.getElementById('notices').append(note);
  setTimeout(() => note.remove(), 6000);
}
