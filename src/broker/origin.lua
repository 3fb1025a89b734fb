-- A Redis that may have lost acknowledged entries must never hand out their positions again: where the primary is
-- not the one seen last, every log of the feed goes on in a later epoch, and the feed's numbers jump, by more than can
-- have been lost, so that every reader sees the hole.
--
-- KEYS  state
-- ARGV  the primary's replication id, 1 where a restart loses nothing
-- Reply 1 where the floor of a feed that was in use was raised, else 0

local LOST_MAX = 16777216

local saved = redis.call('HMGET', KEYS[1], 'replid', 'floor', 'top', 'seq')
if saved[1] == ARGV[1] then return 0 end
local floor = tonumber(saved[2] or '') or 0
local keep = floor > 0 and ARGV[2] == '1'
if not keep then
  local seconds = tonumber(redis.call('TIME')[1])
  local top, seq = tonumber(saved[3] or '') or 0, tonumber(saved[4] or '') or 0
  floor = math.max(seconds, floor, top) + 1
  redis.call('HSET', KEYS[1], 'seq', string.format('%.0f', math.max(seq + LOST_MAX, seconds * 1048576)))
end
redis.call('HSET', KEYS[1], 'replid', ARGV[1], 'floor', floor)
return saved[1] and not keep and 1 or 0
