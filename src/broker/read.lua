-- Reads a part of a log, and how far its feed had come at that moment.
--
-- KEYS  log, state, epochs
-- ARGV  lowest id, highest id, how many, 1 to read from the highest down, an id, the channel
-- Reply the feed's sequence number, the log's first and last id, the newest id not above the one given, the entries,
--       the last epoch of a log that has expired

local log = KEYS[1]
local function id(entries)
  return entries[1] and entries[1][1] or ''
end

local last = id(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1))
local entries = {}
if tonumber(ARGV[3]) > 0 then
  if ARGV[4] == '1' then
    entries = redis.call('XREVRANGE', log, ARGV[2], ARGV[1], 'COUNT', ARGV[3])
  else
    entries = redis.call('XRANGE', log, ARGV[1], ARGV[2], 'COUNT', ARGV[3])
  end
end
return {
  redis.call('HGET', KEYS[2], 'seq') or '0',
  id(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)),
  last,
  ARGV[5] ~= '' and id(redis.call('XREVRANGE', log, ARGV[5], '-', 'COUNT', 1)) or '',
  entries,
  last == '' and redis.call('HGET', KEYS[3], ARGV[6]) or '',
}
