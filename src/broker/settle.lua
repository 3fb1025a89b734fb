-- Takes an attempt back that was no failure.
--
-- KEYS  as of the attempt
-- ARGV  how long the mark is kept (ms; 0: it is not set), then for each counter: 1 to forget all it counted, 0 for
--       this attempt alone
--
-- A counter that has run out meanwhile is left alone: what is made anew here would never expire.

local counters = #ARGV - 1
for i = 1, counters do
  if ARGV[i + 1] == '1' then
    redis.call('DEL', KEYS[i])
  elseif redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HDEL', KEYS[i], 'open_at')
    if redis.call('HINCRBY', KEYS[i], 'count', -1) <= 0 then redis.call('DEL', KEYS[i]) end
  end
end
if ARGV[1] ~= '0' and KEYS[counters + 1] then redis.call('SET', KEYS[counters + 1], 1, 'PX', ARGV[1]) end
return 0
