-- Writes up to 256 items, atomically and in order: messages to their channel's log and to the feed, notices to the feed
-- alone.
--
-- KEYS  feed, its state, then for each shard: state, epochs; then for each item: log, and once where there is a digest
-- ARGV  number of shards, retention (entries), retention (ms), expiry of an idle log (s), memory of a cid (ms), window
--       of the feed (ms), longest feed (entries), then for each item: which shard (from 1; 0: none), head, payload,
--       epoch, digest of the content (empty: no cid)
-- Heads kind and channel, with a blank between them. Kinds: m a message; n a notice; r a notice with the log's head;
--       d delete the log, with a notice
-- Epoch the one last seen by the node; or where it has seen none, or the log's expiry is to be put off, f and the
--       channel's epoch floor
-- Reply the time, then for each item: status and value
--       1 written (position), 2 written before under this cid (position, time), 3 the cid belongs to another content,
--       4 the log is gone, 5 announced (number in the feed), 6 deleted (number in the feed; the log's last position, or
--       one of its last epoch), 7 failed, perhaps half way

local FIXED, FIELDS = 7, 5
local retention, retention_ms, expiry, dedupe_ms = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local call, sub = redis.call, string.sub
local time = call('TIME')
local seconds = tonumber(time[1])
local now_ms = seconds * 1000 + math.floor(tonumber(time[2]) / 1000)

local function number(n)
  return string.format('%.0f', n)
end
local now = number(now_ms)

local feed, feed_state = KEYS[1], KEYS[2]

-- A number that is missing means that everything was lost: begin behind all that may have been handed out, by a feed of
-- less than a million items a second.
local before = tonumber(call('HGET', feed_state, 'seq') or '') or seconds * 1048576
local seq = before

-- What one call writes is one entry of the feed: the number of its first item and the time, then of each item its head
-- with the position, and its payload.
local entry = { 'XADD', feed, 'MINID', '~', number(now_ms - tonumber(ARGV[6])), '*', number(before + 1), now }
local filled = #entry
local function publish(head, position, payload)
  seq = seq + 1
  entry[filled + 1], entry[filled + 2] = head .. ' ' .. position, payload
  filled = filled + 2
end

-- What is known of a shard: its keys, the lowest epoch of whatever is written now, the highest epoch of any of its logs,
-- and for each epoch that a node has seen the one to go on in. Where the state is missing, everything was lost: begin
-- behind every epoch that may have been handed out.
local function open_shard(state, epochs)
  local saved = call('HMGET', state, 'floor', 'top')
  local floor = tonumber(saved[1] or '') or 0
  if floor == 0 then
    floor = seconds + 1
    call('HSET', state, 'floor', floor)
  end
  return { state = state, epochs = epochs, floor = floor, top = tonumber(saved[2] or '') or 0, next = {} }
end

local function last_id(log)
  local newest = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return newest and newest[1]
end

local function add(log, id, payload)
  return redis.pcall('XADD', log, 'NOMKSTREAM', id, 't', now, 'p', payload)
end

-- The last epoch of a log, also of one that has expired.
local function last_epoch(shard, channel)
  return tonumber(call('HGET', shard.epochs, channel) or '') or 0
end

-- In the epoch that the node has seen, or in the floor's where that is higher.
local function add_after_seen(shard, log, seen, payload)
  local id = shard.next[seen]
  if not id then
    id = number(math.max(tonumber(seen), shard.floor)) .. '-*'
    shard.next[seen] = id
  end
  return add(log, id, payload)
end

-- In the log's own epoch, or in the floor's where that is higher.
local function add_after_last(shard, log, payload)
  local last = last_id(log)
  return last and add(log, number(math.max(tonumber(string.match(last, '^%d+')), shard.floor)) .. '-*', payload)
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

local function append(shard, log, head, payload, seen)
  local channel = sub(head, 3)
  local floor = sub(seen, 1, 1) == 'f' and sub(seen, 2)
  local id
  if not floor then id = add_after_seen(shard, log, seen, payload) end
  if floor or (type(id) == 'table' and string.find(id.err, 'equal or smaller', 1, true)) then
    id = add_after_last(shard, log, payload)
  end
  if type(id) == 'table' then error(id) end
  if not id then
    if call('EXISTS', log .. ':gone') == 1 then return nil end
    local lowest = floor and tonumber(floor) or tonumber(seen) + 1
    local epoch = math.max(seconds, shard.floor, lowest, last_epoch(shard, channel) + 1)
    id = number(epoch) .. '-0'
    call('XADD', log, id, 't', now, 'p', payload)
    if epoch > shard.top then
      shard.top = epoch
      call('HSET', shard.state, 'top', number(epoch))
    end
  end
  local place = sub(id, -2)
  if floor or place == '-0' then
    call('EXPIRE', log, expiry)
    call('HSET', shard.epochs, channel, string.match(id, '^%d+'))
    trim(log)
  elseif place == '49' or place == '99' then
    trim(log)
  end
  return id
end

local reply, answered = { now }, 1
local function answer(status, value)
  reply[answered + 1], reply[answered + 2] = status, value
  answered = answered + 2
end

local function message(shard, log, once, head, payload, seen, digest)
  if once then
    local known = call('GET', once)
    if known then
      local written, content = string.match(known, '^(%S+ %S+) (%S+)$')
      return answer(content == digest and 2 or 3, written)
    end
  end
  local id = append(shard, log, head, payload, seen)
  if not id then return answer(4, '') end
  publish(head, id, payload)
  if once then call('SET', once, id .. ' ' .. now .. ' ' .. digest, 'PX', dedupe_ms) end
  answer(1, id)
end

local function notice(kind, shard, log, head, payload)
  if kind == 'd' then
    local channel = sub(head, 3)
    local epoch = last_epoch(shard, channel)
    -- A deletion may be announced again: it is answered as before.
    local last = last_id(log) or call('GET', log .. ':gone') or (epoch > 0 and number(epoch) .. '-0') or ''
    call('DEL', log)
    call('HDEL', shard.epochs, channel)
    call('SET', log .. ':gone', last, 'EX', 86400)
    publish(head, last, payload)
    return answer(6, number(seq) .. ' ' .. last)
  end
  publish(head, kind == 'r' and last_id(log) or '', payload)
  answer(5, number(seq))
end

local shards, key = {}, 2
for i = 1, tonumber(ARGV[1]) do
  shards[tostring(i)] = open_shard(KEYS[key + 1], KEYS[key + 2])
  key = key + 2
end

local function carry_out(a)
  local shard, head, payload, digest = shards[ARGV[a]], ARGV[a + 1], ARGV[a + 2], ARGV[a + 4]
  local log, once = KEYS[key + 1], digest ~= '' and KEYS[key + 2]
  key = key + (once and 2 or 1)
  local kind = sub(head, 1, 1)
  if kind ~= 'm' then return notice(kind, shard, log, head, payload) end
  message(shard, log, once, head, payload, ARGV[a + 3], digest)
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
  call('HSET', feed_state, 'seq', number(seq))
  if not pcall(call, unpack(entry)) then
    for i = 2, answered, 2 do reply[i] = 7 end
  end
  if math.floor(seq / 256) > math.floor(before / 256) then call('XTRIM', feed, 'MAXLEN', '~', ARGV[7]) end
end
return reply
