-- Writes up to 64 items of one feed, atomically and in order: messages to their channel's log and to the feed,
-- notices to the feed alone.
--
-- KEYS  feed, state, epochs, then for each item: log, once
-- ARGV  retention (entries), retention (ms), expiry of an idle log (s), memory of a cid (ms), window of the feed
--       (ms), longest feed (entries), then for each item: kind, channel, payload, channel's epoch floor, epoch last
--       seen by the node (0: none), digest of the content (empty: no cid), 1 to refresh the log's expiry
-- Kinds m a message; n a notice; r a notice with the log's head; d delete the log, with a notice
-- Reply the feed's sequence number, then for each item: status, id, at
--       1 written, 2 written before under this cid, 3 the cid belongs to another content, 4 the log is gone,
--       5 announced, 6 deleted (id: the log's last, or one of its last epoch), 7 failed, perhaps half way

local FIXED, FIELDS = 6, 7
local feed, state, epochs = KEYS[1], KEYS[2], KEYS[3]
local retention, retention_ms, expiry, dedupe_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now_ms = seconds * 1000 + math.floor(tonumber(time[2]) / 1000)

local function number(n)
  return string.format('%.0f', n)
end
local now = number(now_ms)

-- Where the state is missing, everything was lost: begin behind every epoch and number that may have been handed out
-- (of numbers, by a feed of less than a million entries a second).
local saved = redis.call('HMGET', state, 'floor', 'seq', 'top')
local floor = tonumber(saved[1] or '') or 0
local before = tonumber(saved[2] or '') or 0
if floor == 0 then
  floor = seconds + 1
  before = math.max(before, seconds * 1048576)
  redis.call('HSET', state, 'floor', floor)
end
-- The highest epoch of any log of the feed.
local top = tonumber(saved[3] or '') or 0
local seq = before

local function publish(kind, channel, position, payload)
  seq = seq + 1
  if seq == before + 1 then
    local oldest = number(now_ms - tonumber(ARGV[5]))
    redis.call('XADD', feed, 'MINID', '~', oldest, '*',
      'k', kind, 'c', channel, 'i', position, 't', now, 'p', payload, 'n', number(seq))
  else
    redis.call('XADD', feed, '*', 'k', kind, 'c', channel, 'i', position, 't', now, 'p', payload, 'n', number(seq))
  end
end

local function last_id(log)
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return newest and newest[1]
end

local function add(log, epoch, payload)
  return redis.pcall('XADD', log, 'NOMKSTREAM', 'MAXLEN', '~', retention, epoch .. '-*', 't', now, 'p', payload)
end

-- The last epoch of a log, also of one that has expired.
local function last_epoch(channel)
  return tonumber(redis.call('HGET', epochs, channel) or '') or 0
end

-- Goes on in the log's own epoch, or in the floor's where that is higher.
local function add_after_last(log, payload)
  local last = last_id(log)
  return last and add(log, math.max(tonumber(string.match(last, '^%d+')), floor), payload)
end

-- Age has no place in a position, so old entries are looked for, a few at a time.
local function trim_old(log)
  local oldest = now_ms - retention_ms
  for count = 1, 101, 100 do
    local old
    for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', count)) do
      if tonumber(entry[2][2]) < oldest then old = entry[1] end
    end
    if not old then return end
    if count > 1 then redis.call('XTRIM', log, 'MINID', '=', old) end
  end
end

local function append(log, channel, payload, channel_floor, seen, refresh)
  local id
  if seen > 0 then id = add(log, math.max(seen, floor), payload) end
  if seen == 0 or (type(id) == 'table' and string.find(id.err, 'equal or smaller', 1, true)) then
    id = add_after_last(log, payload)
  end
  if type(id) == 'table' then error(id) end
  if not id then
    if redis.call('EXISTS', log .. ':gone') == 1 then return nil end
    local epoch = math.max(seconds, floor, channel_floor, seen + 1, last_epoch(channel) + 1)
    id = epoch .. '-0'
    redis.call('XADD', log, id, 't', now, 'p', payload)
    if epoch > top then
      top = epoch
      redis.call('HSET', state, 'top', top)
    end
  end
  local epoch, place = string.match(id, '^(%d+)-(%d+)$')
  refresh = refresh or place == '0'
  if refresh then
    redis.call('EXPIRE', log, expiry)
    redis.call('HSET', epochs, channel, epoch)
  end
  if refresh or tonumber(place) % 64 == 63 then trim_old(log) end
  return id
end

local reply = { 0 }
local function answer(status, id, at)
  reply[#reply + 1] = status
  reply[#reply + 1] = id
  reply[#reply + 1] = at
end

local function message(log, once, channel, payload, channel_floor, seen, digest, refresh)
  if digest ~= '' then
    local known = redis.call('GET', once)
    if known then
      local id, at, content = string.match(known, '^(%S+) (%S+) (%S+)$')
      return answer(content == digest and 2 or 3, id, at)
    end
  end
  local id = append(log, channel, payload, channel_floor, seen, refresh)
  if not id then return answer(4, '', now) end
  publish('m', channel, id, payload)
  if digest ~= '' then redis.call('SET', once, id .. ' ' .. now .. ' ' .. digest, 'PX', dedupe_ms) end
  answer(1, id, now)
end

local function carry_out(i)
  local a, log, once = FIXED + i * FIELDS, KEYS[4 + i * 2], KEYS[5 + i * 2]
  local kind, channel, payload = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  if kind == 'm' then
    message(log, once, channel, payload, tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), ARGV[a + 6], ARGV[a + 7] == '1')
  elseif kind == 'd' then
    local epoch = last_epoch(channel)
    -- A deletion may be announced again: it is answered as before.
    local last = last_id(log) or redis.call('GET', log .. ':gone') or (epoch > 0 and epoch .. '-0') or ''
    redis.call('DEL', log)
    redis.call('HDEL', epochs, channel)
    redis.call('SET', log .. ':gone', last, 'EX', 86400)
    publish(kind, channel, last, payload)
    answer(6, last, seq)
  else
    publish(kind, channel, kind == 'r' and last_id(log) or '', payload)
    answer(5, seq, now)
  end
end

-- What fails on its own account must not take along what was written before it. The first failure of all is Redis
-- refusing to write: that is the answer to the whole batch.
for i = 0, (#ARGV - FIXED) / FIELDS - 1 do
  local done, why = pcall(carry_out, i)
  if not done then
    if i == 0 then error(why) end
    answer(7, '', now)
  end
end

if seq > before then redis.call('HSET', state, 'seq', number(seq)) end
if math.floor(seq / 256) > math.floor(before / 256) then redis.call('XTRIM', feed, 'MAXLEN', '~', ARGV[6]) end
reply[1] = seq
return reply
