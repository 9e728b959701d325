-- What every script of the budgets begins with. ARGV[1]: milliseconds in place of the server's clock, "" for none.
-- KEYS[1]: {SPACE}:holds; all keys of a space share its hash tag.
-- Amounts are integers below 2^53; %.0f keeps them so where tostring would write 9.007e+15.
local PREFIX = string.sub(KEYS[1], 1, -6)
local HOLDS, STREAM, EPOCH, SEQ = PREFIX .. 'holds', PREFIX .. 'rows', PREFIX .. 'epoch', PREFIX .. 'seq'
local DAY = 86400000
-- A hold that has ended is remembered for so long: a settlement that comes late or twice finds it.
local TOMBSTONE = 86400
local WINDOWS = { 'minute', 'day', 'month' }
-- Seconds that a counter is kept from its first change on: until long after its window.
local KEPT = { minute = 7200, day = 3 * 86400, month = 66 * 86400 }

local function whole(number)
  return string.format('%.0f', number)
end

local function read_microseconds()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) * 1000 end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function read_clock()
  return math.floor(read_microseconds() / 1000)
end

-- The first day of a day's month; day 0 is 1970-01-01 (Hinnant, chrono-compatible low-level date algorithms).
local function first_of_month(day)
  local of_era = (day + 719468) % 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return day - (of_year - math.floor((153 * math.floor((5 * of_year + 2) / 153) + 2) / 5))
end

-- When the windows of a time began, in the order of WINDOWS.
local function starts_of(at)
  return { at - at % 60000, at - at % DAY, first_of_month(math.floor(at / DAY)) * DAY }
end

local function end_of(window, start)
  if window == 'minute' then return start + 60000 end
  if window == 'day' then return start + DAY end
  return first_of_month(start / DAY + 31) * DAY
end

local function counter_of(scope, window, start)
  return PREFIX .. 'spent:' .. scope .. ':' .. window .. ':' .. start
end

-- Calls `visit` for each counter of the scopes (joined by spaces) in the windows of a time, the widest first, with
-- its key, the number of its scope from 0, its window and the window's start.
local function each_counter(scopes, at, visit)
  local starts, texts, number = starts_of(at), {}, 0
  for place, start in ipairs(starts) do texts[place] = whole(start) end
  for scope in string.gmatch(scopes, '%S+') do
    for place, window in ipairs(WINDOWS) do
      visit(counter_of(scope, window, texts[place]), number, window, starts[place])
    end
    number = number + 1
  end
end

-- Spent tokens, held tokens, spent nanos, held nanos.
local function read_counter(key)
  local found = redis.call('HMGET', key, 'st', 'ht', 'sn', 'hn')
  return tonumber(found[1] or 0), tonumber(found[2] or 0), tonumber(found[3] or 0), tonumber(found[4] or 0)
end

local function corrections_of(scope)
  return PREFIX .. 'corrected:' .. scope
end

local function read_corrections(scope)
  return redis.call('GET', corrections_of(scope)) or '0'
end

-- Adds to all counters of the scopes in the windows of `at`.
local function add(scopes, at, spent_tokens, held_tokens, spent_nanos, held_nanos)
  local changes = {}
  local function change(field, amount)
    if amount ~= 0 then changes[#changes + 1] = { field, amount, whole(amount) } end
  end
  change('st', spent_tokens)
  change('ht', held_tokens)
  change('sn', spent_nanos)
  change('hn', held_nanos)
  each_counter(scopes, at, function(key, _, window)
    local may_be_new = false
    for _, one in ipairs(changes) do
      may_be_new = redis.call('HINCRBY', key, one[1], one[3]) == one[2] or may_be_new
    end
    if may_be_new then redis.call('EXPIRE', key, KEPT[window]) end
  end)
end

-- Names this store's life: one that has lost all it had gets another name.
local function read_epoch(now)
  local epoch = redis.call('GET', EPOCH)
  if not epoch then
    epoch = whole(now) .. '-' .. redis.call('TIME')[2]
    redis.call('SET', EPOCH, epoch)
  end
  return epoch
end

-- Places rise with the clock: a store that comes back without its last second gives none twice.
local function next_place()
  local place = whole(math.max(tonumber(redis.call('GET', SEQ) or 0) + 1, read_microseconds()))
  redis.call('SET', SEQ, place)
  return place
end

-- how: settled; expired, of what an expiry charged; reversed, which takes that back.
local function append(now, how, at, tokens, nanos, row)
  redis.call('XADD', STREAM, '*', 'how', how, 'epoch', read_epoch(now), 'seq', next_place(),
    'at', whole(at), 'tokens', whole(tokens), 'nanos', whole(nanos), 'row', row)
end

local function hold_of(id)
  return PREFIX .. 'hold:' .. id
end

-- Ends a hold that runs: what was used is spent, all that was held is free.
local function finish(now, id, hold, how, tokens, nanos, row)
  local found = redis.call('HMGET', hold, 'at', 'scopes', 'tokens', 'nanos')
  local at = tonumber(found[1])
  add(found[2], at, tokens, -tonumber(found[3]), nanos, -tonumber(found[4]))
  append(now, how, at, tokens, nanos, row)
  redis.call('ZREM', HOLDS, id)
end

-- What is kept of a settled id: most ids end so, a day of them takes the most memory.
local function remember_settled(hold, at)
  redis.call('DEL', hold)
  redis.call('HSET', hold, 'at', whole(at), 'state', 'settled')
  redis.call('EXPIRE', hold, TOMBSTONE)
end

-- Ends up to `most` holds whose lease is over; each is charged with what was last reported. Returns how many.
local function expire(now, most)
  local over = redis.call('ZRANGEBYSCORE', HOLDS, '-inf', whole(now), 'LIMIT', 0, most)
  for _, id in ipairs(over) do
    local hold = hold_of(id)
    local used = redis.call('HMGET', hold, 'used_tokens', 'used_nanos', 'row')
    if used[1] then
      finish(now, id, hold, 'expired', tonumber(used[1]), tonumber(used[2]), used[3])
      -- A bill that comes later takes back what was charged.
      redis.call('HSET', hold, 'state', 'expired')
      redis.call('EXPIRE', hold, TOMBSTONE)
    else
      redis.call('ZREM', HOLDS, id)
    end
  end
  return #over
end
