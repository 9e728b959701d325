-- Adds to what is spent. ARGV: clock, epoch as it was read, how many scopes, of each its name and its corrections as
-- they were read, then scope, window, start, tokens and nanos to add. Gives 0, and changes nothing, where the store is
-- another or one of the scopes was corrected since.
if redis.call('GET', EPOCH) ~= ARGV[2] then return 0 end
local first = 4 + 2 * tonumber(ARGV[3])
for place = 4, first - 1, 2 do
  if read_corrections(ARGV[place]) ~= ARGV[place + 1] then return 0 end
end
for place = first, #ARGV, 5 do
  local key = counter_of(ARGV[place], ARGV[place + 1], ARGV[place + 2])
  redis.call('HINCRBY', key, 'st', ARGV[place + 3])
  redis.call('HINCRBY', key, 'sn', ARGV[place + 4])
  redis.call('EXPIRE', key, KEPT[ARGV[place + 1]])
end
for place = 4, first - 1, 2 do
  redis.call('INCR', corrections_of(ARGV[place]))
  redis.call('EXPIRE', corrections_of(ARGV[place]), KEPT.month)
end
return 1
