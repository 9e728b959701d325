/** Figures as text. What is not known is "unknown", never 0. Times are those of the reader's clock. */

const UNKNOWN = 'unknown';
const GROUPED = new Intl.NumberFormat('en-US', { maximumFractionDigits: 2 });
const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** @param {any} value @returns {boolean} whether it is no number */
export function isUnknown(value) {
  return value === null || value === undefined || value === '' || Number.isNaN(Number(value));
}

/** @param {number|string|null} value @param {number} [digits] behind the point at most @returns {string} 12,345.6 */
export function number(value, digits = 2) {
  if (isUnknown(value)) return UNKNOWN;
  if (digits === 2) return GROUPED.format(Number(value));
  return new Intl.NumberFormat('en-US', { maximumFractionDigits: digits }).format(Number(value));
}

/** @param {number|string|null} value @returns {string} whole below 100,000; then 123k, 12.3M, 1.2B */
export function tokens(value) {
  if (isUnknown(value)) return UNKNOWN;
  const count = Number(value);
  for (const [least, divisor, sign] of [[1e9, 1e9, 'B'], [1e6, 1e6, 'M'], [1e5, 1e3, 'k']]) {
    if (Math.abs(count) >= least) return `${significant(count / divisor)}${sign}`;
  }
  return WHOLE.format(count);
}

/** @param {string|number|null} value US dollars @returns {string} $0, $0.000012, $0.1234, $12.30, $1,234.50 */
export function dollars(value) {
  if (isUnknown(value)) return UNKNOWN;
  const amount = Number(value);
  const size = Math.abs(amount);
  const sign = amount < 0 ? '−' : '';
  if (size === 0) return '$0';
  if (size >= 1) return `${sign}$${size.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  // Two significant digits at least, four behind the point at least; a billionth is the ledger's unit.
  const digits = Math.min(9, Math.max(4, 1 - Math.floor(Math.log10(size))));
  return `${sign}$${size.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, '$1')}`;
}

/** @param {number|null} ms milliseconds @returns {string} 0.4 ms, 12 ms, 1.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h */
export function duration(ms) {
  if (isUnknown(ms)) return UNKNOWN;
  const value = Number(ms);
  if (value < 1 && value > 0) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  if (value < 59_950) return `${significant(value / 1000)} s`;
  const whole = Math.round(value / 1000);
  for (const [size, unit, part, small] of [[86_400, 'd', 3600, 'h'], [3600, 'h', 60, 'min'], [60, 'min', 1, 's']]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / part);
      return rest ? `${Math.floor(whole / size)} ${unit} ${rest} ${small}` : `${Math.floor(whole / size)} ${unit}`;
    }
  }
  return `${whole} s`;
}

/** @param {number|null} value seconds @returns {string} as `duration` */
export function seconds(value) {
  return isUnknown(value) ? UNKNOWN : duration(Number(value) * 1000);
}

/** @param {number|null} value @returns {string} 512 B, 12.3 kB, 4.5 MB, 1.2 GB */
export function bytes(value) {
  if (isUnknown(value)) return UNKNOWN;
  let size = Number(value);
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (Math.abs(size) < 999.5) return unit === 'B' ? `${size} B` : `${significant(size)} ${unit}`;
    size /= 1000;
  }
  return `${significant(size)} TB`;
}

/** @param {number|string|null} value Unix seconds, or ISO 8601 @returns {string} 2026-11-29 17:12:03, of the reader's zone */
export function time(value) {
  const date = dateOf(value);
  if (!date) return UNKNOWN;
  const two = (part) => String(part).padStart(2, '0');
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

/** @param {number|null} share from 0 to 1 @returns {string} 12.3 % */
export function percent(share) {
  if (isUnknown(share)) return UNKNOWN;
  const value = Number(share) * 100;
  return `${number(value, Math.abs(value) < 10 ? 2 : 1)} %`;
}

/** @param {number|string|null} value as `time` takes it @param {number} [now] Unix seconds @returns {string} 5 s ago, in 3 min */
export function ago(value, now = Date.now() / 1000) {
  const date = dateOf(value);
  if (!date) return UNKNOWN;
  const passed = now - date.getTime() / 1000;
  if (Math.abs(passed) < 1) return 'now';
  const text = duration(Math.round(Math.abs(passed)) * 1000);
  return passed > 0 ? `${text} ago` : `in ${text}`;
}

function dateOf(value) {
  if (value === null || value === undefined || value === '') return null;
  const date = typeof value === 'number' ? new Date(value * 1000) : new Date(value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** Three significant digits, and all before the point. */
function significant(value) {
  const size = Math.abs(value);
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
