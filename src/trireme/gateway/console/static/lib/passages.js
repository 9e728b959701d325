/** Texts with places in them: citations of an answer, spans of a passage, texts beside one another. Pure. */

const MARK = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]/g;

/**
 * An answer cut at its citations: [1] and [1, 3] where all numbers have a source; any other bracket is text.
 * @param {string} text
 * @param {Iterable<number>} numbers that have a source
 * @returns {({text: string}|{numbers: number[]})[]}
 */
export function splitCitations(text, numbers) {
  const known = new Set(numbers);
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(MARK)) {
    const cited = found[1].split(',').map(Number);
    if (!cited.every((number) => known.has(number))) continue;
    if (found.index > from) parts.push({ text: text.slice(from, found.index) });
    parts.push({ numbers: cited });
    from = found.index + found[0].length;
  }
  if (from < text.length) parts.push({ text: text.slice(from) });
  return parts;
}

/**
 * A text cut at a span. Places count characters as the API does (code points), not halves of them as JavaScript does.
 * @param {string} text
 * @param {number} start
 * @param {number} end
 * @returns {[string, string, string]} before it, in it, behind it; all before it where there is no such span
 */
export function splitSpan(text, start, end) {
  const letters = Array.from(text);
  if (!(start >= 0 && end > start && start < letters.length)) return [text, '', ''];
  return [letters.slice(0, start).join(''), letters.slice(start, end).join(''), letters.slice(end).join('')];
}

/**
 * The document that a passage was cut from.
 * @param {{id: string, document?: string, metadata?: any}} passage document: where the answer says it
 * @returns {string} its id
 */
export function documentOf({ id, document, metadata }) {
  if (document) return document;
  if (metadata && !('position' in metadata)) return id;
  return metadata ? id.replace(new RegExp(`#${Number(metadata.position)}$`), '') : id.replace(/#\d+$/, '');
}

/**
 * @param {number[]} first
 * @param {number[]} second of as many numbers
 * @returns {number|null} from -1 to 1; null where one of them has no length
 */
export function cosine(first, second) {
  let dot = 0;
  let one = 0;
  let other = 0;
  first.forEach((value, place) => {
    dot += value * second[place];
    one += value * value;
    other += second[place] * second[place];
  });
  return one && other ? dot / Math.sqrt(one * other) : null;
}

/**
 * How places changed from one list of passages to another.
 * @param {string[]} before ids
 * @param {string[]} after ids
 * @returns {Map<string, number|null>} of each id of `after`: by how many places it went up; null: it is new there
 */
export function moves(before, after) {
  const places = new Map(before.map((id, place) => [id, place]));
  return new Map(after.map((id, place) => [id, places.has(id) ? places.get(id) - place : null]));
}

/**
 * A filter as a person typed it.
 * @param {string} text a JSON object; blank: none
 * @returns {{filter: any|null, fault: string}} fault: what is wrong with it, "" where nothing is
 */
export function readFilter(text) {
  if (!text.trim()) return { filter: null, fault: '' };
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { filter: null, fault: `This is no JSON: ${error.message}` };
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { filter: null, fault: 'A filter is a JSON object, such as {"source": "handbook.md"}' };
  }
  return { filter: Object.keys(value).length ? value : null, fault: '' };
}
