/**
 * A call that was just made, as a command and as a program. The key is $KEY: a recipe holds no secret.
 *
 * @typedef {{path: string, body: any}} Call POST of a JSON body
 */

/**
 * @param {Call} call
 * @param {string} origin of the gateway: scheme, host and port
 * @returns {string} a command of a POSIX shell, whose environment holds KEY
 */
export function asCurl({ path, body }, origin) {
  // -N: what is streamed is shown as it comes.
  const options = body.stream ? '-sSN' : '-sS';
  return [
    `curl ${options} ${quote(origin + path)} \\`,
    `  -H "authorization: Bearer $KEY" -H 'content-type: application/json' \\`,
    `  -d ${quote(JSON.stringify(body))}`,
  ].join('\n');
}

/**
 * @param {Call} call of /v1/chat/completions, /v1/search or /v1/embeddings
 * @param {string} origin
 * @returns {string} a program that needs the package openai, and KEY in its environment
 */
export function asPython({ path, body }, origin) {
  const write = WRITERS[path];
  if (!write) throw new Error(`no recipe for ${path}`);
  return [
    '# pip install openai',
    'from os import environ',
    '',
    'from openai import OpenAI',
    '',
    `client = OpenAI(base_url=${literal(`${origin}/v1`)}, api_key=environ["KEY"])`,
    ...write(body),
    '',
  ].join('\n');
}

const WRITERS = {
  '/v1/chat/completions': writeChat,
  '/v1/search': writeSearch,
  '/v1/embeddings': writeEmbeddings,
};

function writeChat({ trireme, ...body }) {
  const lines = invocation('stream = client.chat.completions.create', { ...body, ...ours(trireme) });
  lines.push('for chunk in stream:');
  lines.push('    if chunk.choices and chunk.choices[0].delta.content:');
  lines.push('        print(chunk.choices[0].delta.content, end="", flush=True)');
  lines.push('    for source in (chunk.model_extra or {}).get("trireme", {}).get("sources", []):');
  lines.push(`        print(f"\\n[{source['number']}] {source['source']}: {source['text']}")`);
  lines.push('print()');
  return lines;
}

/** What the package does not know of goes as extra_body. */
function ours(trireme) {
  return trireme ? { extra_body: { trireme } } : {};
}

function writeSearch(body) {
  return [
    `found = client.post("/search", body=${literal(body)}, cast_to=object)`,
    'for passage in found["passages"]:',
    '    print(f"{passage[\'score\']:.3f}", passage["id"], passage["text"][:80].replace("\\n", " "))',
  ];
}

function writeEmbeddings(body) {
  return [
    ...invocation('made = client.embeddings.create', body),
    'first, second = (row.embedding for row in made.data)',
    'dot = sum(a * b for a, b in zip(first, second))',
    'lengths = sum(a * a for a in first) ** 0.5 * sum(b * b for b in second) ** 0.5',
    'print(f"cosine {dot / lengths:.4f}")',
  ];
}

function invocation(head, fields) {
  const rows = Object.entries(fields).map(([name, value]) => `    ${name}=${literal(value, 4)},`);
  return [`${head}(`, ...rows, ')'];
}

/**
 * @param {any} value of JSON
 * @param {number} [indent] spaces before the line that it stands in
 * @returns {string} a literal of Python
 */
export function literal(value, indent = 0) {
  if (value === null || value === undefined) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  // A string of JSON is one of Python, but for halves of a letter, which JSON.stringify writes as escapes.
  if (typeof value !== 'object') return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const items = Array.isArray(value)
    ? value.map((item) => literal(item, indent + 4))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, indent + 4)}`);
  const line = `${open}${items.join(', ')}${close}`;
  if (line.length <= 80 && !line.includes('\n')) return line;
  const pad = ' '.repeat(indent + 4);
  return `${open}\n${items.map((item) => `${pad}${item},\n`).join('')}${' '.repeat(indent)}${close}`;
}

/**
 * @param {string} text
 * @returns {string} one word of a POSIX shell
 */
export function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
