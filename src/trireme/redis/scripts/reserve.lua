-- Admits a claim under all its caps at once. ARGV: clock, id, tokens, nanos, used tokens, used nanos, lease (ms),
-- row, scopes (joined by spaces, the widest first), the epoch as it is known ("" for none), then for each scope
-- and window the caps of tokens and nanos, -1 for none. Gives {epoch} alone where the store is another by now, and
-- changes nothing; {epoch, at} of the hold; or {scope, window, unit, cap, spent, held, resets, left tokens, left nanos},
-- -1 for a unit without a cap.
local now = read_clock()
local id, tokens, nanos = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local hold = hold_of(id)
local epoch = read_epoch(now)
if ARGV[10] ~= '' and ARGV[10] ~= epoch then return { epoch } end
local before = redis.call('HGET', hold, 'at')
if before then return { epoch, before } end
expire(now, 8)

local refusal, left_tokens, left_nanos
local place = 11
each_counter(ARGV[9], now, function(key, number, window, start)
  local cap_tokens, cap_nanos = tonumber(ARGV[place]), tonumber(ARGV[place + 1])
  place = place + 2
  if cap_tokens < 0 and cap_nanos < 0 then return end
  local st, ht, sn, hn = read_counter(key)
  if cap_tokens >= 0 then
    left_tokens = math.min(left_tokens or cap_tokens, cap_tokens - st - ht)
    if st + ht + tokens > cap_tokens and not refusal then
      refusal = { number, window, 'tokens', cap_tokens, st, ht, end_of(window, start) }
    end
  end
  if cap_nanos >= 0 then
    left_nanos = math.min(left_nanos or cap_nanos, cap_nanos - sn - hn)
    if sn + hn + nanos > cap_nanos and not refusal then
      refusal = { number, window, 'nanos', cap_nanos, sn, hn, end_of(window, start) }
    end
  end
end)
if refusal then
  local number, window, unit, cap, spent, held, ends = unpack(refusal)
  return {
    whole(number), window, unit, whole(cap), whole(spent), whole(held), whole(ends),
    left_tokens and whole(math.max(left_tokens, 0)) or '-1', left_nanos and whole(math.max(left_nanos, 0)) or '-1',
  }
end

add(ARGV[9], now, 0, tokens, 0, nanos)
redis.call('HSET', hold, 'at', whole(now), 'scopes', ARGV[9], 'tokens', whole(tokens), 'nanos', whole(nanos),
  'used_tokens', ARGV[5], 'used_nanos', ARGV[6], 'row', ARGV[8], 'state', 'held')
redis.call('ZADD', HOLDS, whole(now + tonumber(ARGV[7])), id)
return { epoch, whole(now) }
