-- Ends holds whose lease is over. ARGV: clock, how many at most. Gives how many ended.
return expire(read_clock(), tonumber(ARGV[2]))
