-- Takes what waits for a group of readers. KEYS: base, log, lent, waiting.
-- ARGV: verb, group, reader, max, bound, idle, lease, wait; times in
-- microseconds, zero for none. Returns {epoch, how many were passed over,
-- entries}.
local base, log, lent, waiting = unpack(KEYS)
local group, reader = ARGV[2], ARGV[3]
local max, bound = tonumber(ARGV[4]), tonumber(ARGV[5])
local idle, lease, wait = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
together(ARGV[1])
local now = micros()
local mark_of, seen_of = 'mark:' .. group, 'seen:' .. group
local known = redis.call('HMGET', base, 'epoch', 'offset', mark_of, seen_of)
local entries, dropped = {}, 0

local function after(mark, count)
  return redis.call('XRANGE', log, int(mark + 1) .. '-0', '+', 'COUNT', count)
end

-- The last offset before the group was idle for too long, or nothing.
local function left_behind(seen)
  local function lives(from, to)
    if to - from <= idle then return true end
    return seen and seen > from and seen < to and seen - from <= idle and to - seen <= idle
  end
  local nextone = now
  for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-')) do
    local time = tonumber(entry[2][2])
    if not lives(time, nextone) then return tonumber(string.match(entry[1], '^%d+')) end
    nextone = time
  end
end

if known[1] then
  local last = tonumber(known[2])
  local before = math.min(tonumber(known[3] or 0), last)
  local seen = tonumber(known[4])
  local mark = before
  local first = after(mark, 1)[1]
  local has_back = redis.call('ZCOUNT', lent, '-inf', int(now)) > 0
  -- Young ones can't have been left behind.
  local is_old = first and now - tonumber(first[2][2]) > idle
  if idle > 0 and (is_old or has_back) then
    local left = left_behind(seen)
    if left then
      mark = math.max(mark, left)
      for _, offset in ipairs(redis.call('ZRANGEBYSCORE', lent, '-inf', int(now))) do
        if tonumber(offset) <= left then redis.call('ZREM', lent, offset) end
      end
    end
  end
  mark = math.max(mark, last - bound)
  first = after(mark, 1)[1]
  if seen then
    local reached = first and tonumber(string.match(first[1], '^%d+')) - 1 or last
    dropped = math.max(reached - before, 0)
  end
  -- What has come back is older than everything behind the mark.
  local back = redis.call('ZRANGEBYSCORE', lent, '-inf', int(now))
  table.sort(back, function(one, two) return tonumber(one) < tonumber(two) end)
  for _, offset in ipairs(back) do
    if #entries == max then break end
    local entry = entry_at(log, offset)
    if entry then
      entries[#entries + 1] = entry
    else
      redis.call('ZREM', lent, offset)
      dropped = dropped + 1
    end
  end
  if first and #entries < max then
    for _, entry in ipairs(after(mark, max - #entries)) do
      entries[#entries + 1] = entry
    end
  end
  for _, entry in ipairs(entries) do
    local offset = string.match(entry[1], '^%d+')
    redis.call('ZADD', lent, int(now + lease), offset)
    mark = math.max(mark, tonumber(offset))
  end
  redis.call('HSET', base, mark_of, int(mark), seen_of, int(now))
  if #entries > 0 then
    local left = redis.call('PTTL', base)
    if left > 0 then redis.call('PEXPIRE', lent, left) end
  end
end

redis.call('ZREMRANGEBYSCORE', waiting, '-inf', int(now))
if #entries == 0 and wait > 0 then
  redis.call('ZADD', waiting, int(now + wait), reader)
  redis.call('PEXPIRE', waiting, math.ceil(wait / 1000) + 1000)
else
  redis.call('ZREM', waiting, reader)
end
return {known[1] or '', dropped, entries}
