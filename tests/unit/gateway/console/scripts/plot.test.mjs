import assert from 'node:assert/strict';
import { test } from 'node:test';

import { paths, range } from '../lib/plot.js';

const SCALE = { interval: 10, most: 25 };

function drawn(points) {
  const { least, greatest } = range(points);
  return paths(points, { ...SCALE, least, greatest });
}

test('the latest value stands at the right end, and each interval has its place', () => {
  assert.equal(drawn([[0, 1], [10, 2], [20, 4]]).line, 'M220 35.5L230 25L240 4');
});

test('a value that is not known is a gap', () => {
  const { line } = drawn([[0, 1], [10, null], [20, 1], [30, 1]]);
  assert.equal(line.match(/M/g).length, 2);
});

test('a time that is missing is a gap', () => {
  const { line } = drawn([[0, 1], [10, 1], [40, 1], [50, 1]]);
  assert.equal(line.match(/M/g).length, 2);
});

test('a value between two gaps can be seen', () => {
  assert.match(drawn([[0, null], [10, 3], [20, null]]).line, /^M[\d. ]+h-1$/);
});

test('values that are all 0 lie on the ground', () => {
  assert.equal(drawn([[0, 0], [10, 0]]).line, 'M230 46L240 46');
});

test('values below 0 are drawn within the picture', () => {
  const heights = [...drawn([[0, -2], [10, 2]]).line.matchAll(/[ML][\d.]+ ([\d.-]+)/g)].map(([, y]) => Number(y));
  assert.deepEqual(heights, [46, 4]);
});

test('of nothing nothing is drawn', () => {
  assert.deepEqual(drawn([]), { line: '', area: '' });
  assert.equal(range([[0, null]]).known, 0);
});
