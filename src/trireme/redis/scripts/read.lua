-- Counters at one instant. ARGV: clock, scopes. Gives epoch, seq, how often each scope was corrected, and for each
-- scope and window the start and the four amounts. Changes nothing but the name of a store that is new.
local now = read_clock()
local corrections = {}
for scope in string.gmatch(ARGV[2], '%S+') do
  corrections[#corrections + 1] = read_corrections(scope)
end
local found = { read_epoch(now), redis.call('GET', SEQ) or '0', table.concat(corrections, ' ') }
each_counter(ARGV[2], now, function(key, _, _, start)
  -- As they are kept: text costs the most here.
  local kept = redis.call('HMGET', key, 'st', 'ht', 'sn', 'hn')
  found[#found + 1] = { whole(start), kept[1] or '0', kept[2] or '0', kept[3] or '0', kept[4] or '0' }
end)
return found
