-- Ends a hold. ARGV: clock, id, tokens, nanos, row, scopes of an id that is not known (joined by spaces). Gives 1, or
-- 0 where it was settled before.
local now = read_clock()
local id, tokens, nanos, row = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local hold = hold_of(id)
local found = redis.call('HMGET', hold, 'state', 'at', 'scopes', 'used_tokens', 'used_nanos', 'row')
local state, at = found[1], tonumber(found[2] or now)
if state == 'settled' then return 0 end

if state == 'held' then
  finish(now, id, hold, 'settled', tokens, nanos, row)
else
  local scopes, charged_tokens, charged_nanos = ARGV[6], 0, 0
  if state == 'expired' then
    scopes, charged_tokens, charged_nanos = found[3], tonumber(found[4]), tonumber(found[5])
    append(now, 'reversed', at, -charged_tokens, -charged_nanos, found[6])
  end
  add(scopes, at, tokens - charged_tokens, 0, nanos - charged_nanos, 0)
  append(now, 'settled', at, tokens, nanos, row)
end
remember_settled(hold, at)
return 1
