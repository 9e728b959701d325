import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as format from '../lib/format.js';

const NOTHING = [null, undefined, '', NaN, 'abc'];

test('what is not known is unknown, whatever it would have been', () => {
  for (const show of [format.number, format.tokens, format.dollars, format.duration, format.seconds, format.bytes, format.percent]) {
    for (const value of NOTHING) assert.equal(show(value), 'unknown');
  }
  assert.equal(format.time(null), 'unknown');
  assert.equal(format.time('no time'), 'unknown');
  assert.equal(format.ago(''), 'unknown');
});

test('nothing is a figure of its own', () => {
  assert.equal(format.number(0), '0');
  assert.equal(format.tokens(0), '0');
  assert.equal(format.dollars('0'), '$0');
  assert.equal(format.dollars('0.000000000'), '$0');
  assert.equal(format.duration(0), '0 ms');
  assert.equal(format.bytes(0), '0 B');
  assert.equal(format.percent(0), '0 %');
});

test('dollars keep the digits that tell something', () => {
  const said = {
    '0.000000001': '$0.000000001',
    0.000012: '$0.000012',
    0.0123456: '$0.0123',
    0.1: '$0.10',
    0.5145: '$0.5145',
    1: '$1.00',
    12.345: '$12.35',
    1234.5: '$1,234.50',
    '-3.1': '−$3.10',
    '-0.0004': '−$0.0004',
  };
  for (const [amount, text] of Object.entries(said)) assert.equal(format.dollars(amount), text);
});

test('durations change their unit where a person would', () => {
  const said = [
    [0.4, '0.4 ms'], [12.4, '12 ms'], [999.4, '999 ms'], [999.6, '1 s'], [1380, '1.38 s'], [59_949, '59.9 s'], [59_950, '1 min'],
    [200_000, '3 min 20 s'], [3_600_000, '1 h'], [7_500_000, '2 h 5 min'], [273_600_000, '3 d 4 h'],
  ];
  for (const [ms, text] of said) assert.equal(format.duration(ms), text);
  assert.equal(format.seconds(1.38), '1.38 s');
});

test('sizes and counts are short and right to three digits', () => {
  assert.deepEqual([999, 1000, 23_400_000, 402_000_000, 5e12].map(format.bytes), ['999 B', '1 kB', '23.4 MB', '402 MB', '5 TB']);
  assert.deepEqual([12_345, 99_999, 123_456, 1_234_567, 5.6e9].map(format.tokens), ['12,345', '99,999', '123k', '1.23M', '5.6B']);
});

test('times are written alike from seconds and from ISO 8601', () => {
  const at = Date.UTC(2026, 10, 29, 17, 12, 3) / 1000;
  assert.equal(format.time(at), '2026-11-29 17:12:03');
  assert.equal(format.time('2026-11-29T17:12:03Z'), '2026-11-29 17:12:03');
});

test('how long ago is said of both sides of now', () => {
  assert.equal(format.ago(1000, 1005), '5 s ago');
  assert.equal(format.ago(1000, 1000.4), 'now');
  assert.equal(format.ago(1200, 1000), 'in 3 min 20 s');
});
