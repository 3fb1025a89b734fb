-- Writes up to 256 items, atomically and in order: messages to their channel's log and to the feed, notices to the feed
-- alone.
--
-- KEYS  feed, its state, then for each item: log, and once where there is a digest
-- ARGV  retention (entries), retention (ms), expiry of an idle log (s), after how long it is put off (s), memory of a cid
--       (ms), window of the feed (ms), longest feed (entries), the highest epoch that the node knows of, the node's group,
--       then for each item: what it is, payload, digest of the content (empty: no cid)
-- What  a message: the epoch last seen by the node; or where it has seen none, or none for long, f and the channel's epoch
--       floor. A notice: n; r with the log's head; d delete the log
-- Reply the time, the number of the first item in the feed and the id of the entry there (empty: none), then for each
--       item: status and value
--       1 written (position), 2 written before under this cid (position, time), 3 the cid belongs to another content,
--       4 the log is gone, 5 announced (number in the feed), 6 deleted (number in the feed; the log's last position, or
--       one of its last epoch), 7 failed, perhaps half way
--
-- Lua hashes every byte of each text it is given or makes, and frees it again: a message makes as few as may be.

local FIXED, FIELDS = 9, 3
local retention, retention_ms, expiry, dedupe_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local known = tonumber(ARGV[8])
local call, sub = redis.call, string.sub
local time = call('TIME')
local seconds = tonumber(time[1])
local now_ms = seconds * 1000 + math.floor(tonumber(time[2]) / 1000)

local function number(n)
  return string.format('%.0f', n)
end
local now = number(now_ms)

local feed, state = KEYS[1], KEYS[2]

-- The last number of the feed, the lowest epoch of whatever is written now, and the highest epoch of any log. What is
-- missing means that everything was lost: begin behind every epoch and number that may have been handed out, by a feed of
-- less than a million items a second.
local saved = call('HMGET', state, 'seq', 'floor', 'top')
local before = tonumber(saved[1] or '') or seconds * 1048576
local seq = before
local floor, top = tonumber(saved[2] or ''), tonumber(saved[3] or '') or 0
if not floor then
  floor = math.max(seconds, known) + 1
  call('HSET', state, 'floor', floor)
end

-- What one call writes is one entry of the feed: the number of its first item, the time and who wrote it, then of each
-- item its log (of a message alone), position and payload; and something behind them where that makes no pairs.
local first = number(before + 1)
local entry = { 'XADD', feed, 'MINID', '~', number(now_ms - tonumber(ARGV[6])), '*', first, now, ARGV[9] }
local filled = #entry
local function publish(log, position, payload)
  seq = seq + 1
  entry[filled + 1], entry[filled + 2], entry[filled + 3] = log, position, payload
  filled = filled + 3
end

local function last_id(log)
  local newest = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return newest and newest[1]
end

local function add(log, id, payload)
  return redis.pcall('XADD', log, 'NOMKSTREAM', id, 't', now, 'p', payload)
end

-- Where the last epoch of a log is, also of one that has expired: with all that have the same hash tag, by the channel.
local function epochs(log)
  local shard, channel = string.match(log, '^(.-{.-}).*:(.*)$')
  return shard .. ':epochs', channel
end

local function last_epoch(log)
  return tonumber(call('HGET', epochs(log)) or '') or 0
end

-- In the epoch that the node has seen, or in the floor's where that is higher.
local after = {}
local function add_after_seen(log, seen, payload)
  local id = after[seen]
  if not id then
    id = number(math.max(tonumber(seen), floor)) .. '-*'
    after[seen] = id
  end
  return add(log, id, payload)
end

-- In the log's own epoch, or in the floor's where that is higher.
local function add_after_last(log, payload)
  local last = last_id(log)
  return last and add(log, number(math.max(tonumber(string.match(last, '^%d+')), floor)) .. '-*', payload)
end

-- Age has no place in a position, so old entries are looked for, a few at a time.
local function trim(log)
  call('XTRIM', log, 'MAXLEN', '~', retention)
  local oldest = now_ms - retention_ms
  for count = 1, 101, 100 do
    local old
    for _, found in ipairs(call('XRANGE', log, '-', '+', 'COUNT', count)) do
      if tonumber(found[2][2]) < oldest then old = found[1] end
    end
    if not old then return end
    if count > 1 then call('XTRIM', log, 'MINID', '=', old) end
  end
end

-- Whether the expiry was put off long ago, or to another time than now.
local function is_due(log)
  local ago = expiry - call('TTL', log)
  return ago < 0 or ago >= tonumber(ARGV[4])
end

local function append(log, payload, seen)
  local lowest = sub(seen, 1, 1) == 'f' and sub(seen, 2)
  local id
  if not lowest then id = add_after_seen(log, seen, payload) end
  if lowest or (type(id) == 'table' and string.find(id.err, 'equal or smaller', 1, true)) then
    id = add_after_last(log, payload)
  end
  if type(id) == 'table' then error(id) end
  if not id then
    if call('EXISTS', log .. ':gone') == 1 then return nil end
    local least = lowest and tonumber(lowest) or tonumber(seen) + 1
    -- An epoch that the node knows of and this Redis does not was lost with what it held.
    local lost = top < known and known or 0
    local epoch = math.max(seconds, floor, least, last_epoch(log) + 1, lost + 1)
    id = number(epoch) .. '-0'
    call('XADD', log, id, 't', now, 'p', payload)
    if epoch > top then
      top = epoch
      call('HSET', state, 'top', number(epoch))
    end
  end
  local place = sub(id, -2)
  if place == '-0' or (lowest and is_due(log)) then
    call('EXPIRE', log, expiry)
    local key, channel = epochs(log)
    call('HSET', key, channel, string.match(id, '^%d+'))
    trim(log)
  elseif place == '49' or place == '99' then
    trim(log)
  end
  return id
end

local reply, answered = { now, first, '' }, 3
local function answer(status, value)
  reply[answered + 1], reply[answered + 2] = status, value
  answered = answered + 2
end

local function message(log, once, payload, seen, digest)
  if once then
    local known = call('GET', once)
    if known then
      local written, content = string.match(known, '^(%S+ %S+) (%S+)$')
      return answer(content == digest and 2 or 3, written)
    end
  end
  local id = append(log, payload, seen)
  if not id then return answer(4, '') end
  publish(log, id, payload)
  if once then call('SET', once, id .. ' ' .. now .. ' ' .. digest, 'PX', dedupe_ms) end
  answer(1, id)
end

local function notice(kind, log, payload)
  if kind == 'd' then
    local epoch = last_epoch(log)
    -- A deletion may be announced again: it is answered as before.
    local last = last_id(log) or call('GET', log .. ':gone') or (epoch > 0 and number(epoch) .. '-0') or ''
    call('DEL', log)
    call('HDEL', epochs(log))
    call('SET', log .. ':gone', last, 'EX', 86400)
    publish('', last, payload)
    return answer(6, number(seq) .. ' ' .. last)
  end
  publish('', kind == 'r' and last_id(log) or '', payload)
  answer(5, number(seq))
end

local notices = { n = true, r = true, d = true }
local key = 2
local function carry_out(a)
  local what, payload, digest = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local log, once = KEYS[key + 1], digest ~= '' and KEYS[key + 2]
  key = key + (once and 2 or 1)
  if notices[what] then return notice(what, log, payload) end
  message(log, once, payload, what, digest)
end

-- What fails on its own account must not take along what was written before it. The first failure of all is Redis
-- refusing to write: that is the answer to the whole batch.
for a = FIXED + 1, #ARGV, FIELDS do
  local done, why = pcall(carry_out, a)
  if not done then
    if a == FIXED + 1 then error(why) end
    answer(7, '')
  end
end

-- The number first: where the entry cannot be written, every reader shall see the hole.
if seq > before then
  call('HSET', state, 'seq', number(seq))
  if (seq - before) % 2 == 0 then entry[filled + 1] = '' end
  local added, id = pcall(call, unpack(entry))
  if added then
    reply[3] = id
  else
    for i = 4, answered, 2 do reply[i] = 7 end
  end
  if math.floor(seq / 256) > math.floor(before / 256) then call('XTRIM', feed, 'MAXLEN', '~', ARGV[7]) end
end
return reply
