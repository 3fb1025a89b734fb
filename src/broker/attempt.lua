-- Counts an attempt, unless one of its counters says to wait: then nothing is counted. It counts before anybody knows
-- whether it fails, so that many at a time cannot pass a counter unseen.
--
-- KEYS  the counters; behind them, where there is one, the mark under which the last counter does not apply
-- ARGV  window (ms), first wait (ms), longest wait (ms), then for each counter: how many attempts are free
-- Reply the milliseconds to wait, 0 where the attempt may be made
--
-- A window begins with the first attempt. Each one beyond the free ones doubles the wait for the next, and begins the
-- window anew, behind that wait.

local window, first, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local counters = #ARGV - 3
local mark = KEYS[counters + 1]
if mark and redis.call('EXISTS', mark) == 1 then counters = counters - 1 end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local wait = 0
for i = 1, counters do
  wait = math.max(wait, (tonumber(redis.call('HGET', KEYS[i], 'open_at') or '') or 0) - now)
end
if wait > 0 then return wait end

for i = 1, counters do
  local count = redis.call('HINCRBY', KEYS[i], 'count', 1)
  local beyond = count - tonumber(ARGV[i + 3])
  if beyond > 0 then
    local pause = math.min(first * 2 ^ (beyond - 1), longest)
    redis.call('HSET', KEYS[i], 'open_at', string.format('%.0f', now + pause))
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', window + pause))
  elseif count == 1 then
    redis.call('PEXPIRE', KEYS[i], window)
  end
end
return 0
