-- Keeps holds for another lease. ARGV: clock, lease (ms), then id, used tokens, used nanos of each. Gives the ids of
-- those that have ended.
local now = read_clock()
local until_ms, ended = whole(now + tonumber(ARGV[2])), {}
for place = 3, #ARGV, 3 do
  local id = ARGV[place]
  local hold = hold_of(id)
  if redis.call('HGET', hold, 'state') == 'held' then
    redis.call('HSET', hold, 'used_tokens', ARGV[place + 1], 'used_nanos', ARGV[place + 2])
    redis.call('ZADD', HOLDS, until_ms, id)
  else
    ended[#ended + 1] = id
  end
end
return ended
