// Lines over the last minutes, in SVG drawn by hand: colours are those of the style sheet, so they follow the scheme.

import { el, fill, svg } from './dom.js';
import { language, t } from './text.js';

const HEIGHT = 170;
const [LEFT, RIGHT, TOP, BOTTOM] = [58, 8, 10, 22];

/** The least of 1, 2, 5 times a power of ten that is not below; of bytes, the least power of two. */
function ceiling(value, isBytes) {
  if (!(value > 0)) return isBytes ? 1024 : 1;
  if (isBytes) return 2 ** Math.ceil(Math.log2(Math.max(value, 1024)));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/**
 * A chart of `series` (`{ name, colour, values }`, as long as `times`, in milliseconds) in a box that stays. `format` writes a value.
 */
export class Chart {
  constructor(title, format, { isBytes = false, least = 0 } = {}) {
    Object.assign(this, { format, isBytes, least });
    this.legend = el('div', { class: 'legend' });
    this.picture = svg('svg', { role: 'img', 'aria-label': title, height: HEIGHT });
    this.tip = el('div', { class: 'tip', hidden: true, role: 'presentation' });
    const box = el('div', { class: 'plot', on: { pointermove: (event) => this.point(event), pointerleave: () => this.leave() } }, this.picture, this.tip);
    this.node = el('section', { class: 'panel chart' }, el('div', { class: 'title' }, el('h2', null, title), this.legend), box);
    this.series = [];
    this.times = [];
    this.windowMs = 300_000;
  }

  update(times, series) {
    this.times = times;
    this.series = series;
    this.width = this.picture.clientWidth || 480;
    this.picture.setAttribute('viewBox', `0 0 ${this.width} ${HEIGHT}`);
    const now = times[times.length - 1] ?? Date.now();
    this.from = now - this.windowMs;
    this.top = ceiling(Math.max(this.least, ...series.flatMap((one) => one.values).filter((value) => value !== null)), this.isBytes);
    const marks = [];
    for (let step = 0; step <= 4; step += 1) {
      const y = this.y((this.top * step) / 4);
      marks.push(svg('line', { class: step ? 'grid' : 'axis', x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }));
      if (step % 2 === 0) marks.push(svg('text', { class: 'tick', x: LEFT - 8, y: y + 4, 'text-anchor': 'end' }, this.format((this.top * step) / 4)));
    }
    for (let minute = 5; minute >= 0; minute -= this.width < 420 ? 2.5 : 1) {
      const x = this.x(now - minute * 60_000);
      const anchor = minute === 0 ? 'end' : minute === 5 ? 'start' : 'middle';
      marks.push(svg('text', { class: 'tick', x, y: HEIGHT - 5, 'text-anchor': anchor }, minute ? `−${minute.toLocaleString(language())} min` : t('now')));
    }
    const lines = series.map((one) => svg('path', { class: `line ${one.colour}`, d: this.path(one.values) }));
    const areas = series.length === 1 ? [svg('path', { class: `area ${series[0].colour}`, d: this.path(series[0].values, true) })] : [];
    fill(this.picture, marks, areas, lines, this.cursor = svg('line', { class: 'cursor', y1: TOP, y2: HEIGHT - BOTTOM, x1: -9, x2: -9 }));
    const last = (values) => values[values.length - 1] ?? null;
    fill(this.legend, series.map((one) => el('span', { class: 'key' }, el('i', { class: one.colour }), one.name, ' ', el('b', { class: 'number' }, last(one.values) === null ? '–' : this.format(last(one.values))))));
    if (this.at !== undefined) this.show(this.at);
  }

  x(time) {
    return LEFT + ((time - this.from) / this.windowMs) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    return HEIGHT - BOTTOM - (value / this.top) * (HEIGHT - TOP - BOTTOM);
  }

  path(values, isArea = false) {
    let path = '';
    let isDrawing = false;
    let first = null;
    let last = null;
    values.forEach((value, at) => {
      const x = this.x(this.times[at]);
      if (value === null || x < LEFT - 1) {
        isDrawing = false;
        return;
      }
      path += `${isDrawing ? 'L' : 'M'}${x.toFixed(1)} ${this.y(value).toFixed(1)}`;
      isDrawing = true;
      first ??= x;
      last = x;
    });
    const base = this.y(0);
    return isArea && first !== null ? `${path}L${last.toFixed(1)} ${base}L${first.toFixed(1)} ${base}Z` : path;
  }

  point(event) {
    const box = this.picture.getBoundingClientRect();
    const time = this.from + ((((event.clientX - box.left) / box.width) * this.width - LEFT) / (this.width - LEFT - RIGHT)) * this.windowMs;
    let nearest = -1;
    this.times.forEach((one, at) => {
      if (nearest < 0 || Math.abs(one - time) < Math.abs(this.times[nearest] - time)) nearest = at;
    });
    if (nearest >= 0) this.show(this.times[nearest]);
  }

  show(time) {
    const at = this.times.indexOf(time);
    if (at < 0) return this.leave();
    this.at = time;
    const x = this.x(time);
    this.cursor.setAttribute('x1', x);
    this.cursor.setAttribute('x2', x);
    fill(this.tip, el('div', null, new Intl.DateTimeFormat(language(), { timeStyle: 'medium' }).format(new Date(time))),
      this.series.map((one) => el('div', null, el('i', { class: one.colour }), one.name, ' ', el('b', { class: 'number' }, one.values[at] === null ? '–' : this.format(one.values[at])))));
    this.tip.hidden = false;
    this.tip.style.left = `${(x / this.width) * 100}%`;
    this.tip.classList.toggle('left', x > this.width * 0.6);
    return undefined;
  }

  leave() {
    this.at = undefined;
    this.tip.hidden = true;
    this.cursor?.setAttribute('x1', -9);
    this.cursor?.setAttribute('x2', -9);
  }
}
