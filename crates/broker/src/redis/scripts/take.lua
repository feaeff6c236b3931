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
local known = redis.call('HMGET', base, 'epoch', 'offset', mark_of, seen_of, 'removed')
local entries, dropped = {}, 0

local function after(mark, count)
  return redis.call('XRANGE', log, int(mark + 1) .. '-0', '+', 'COUNT', count)
end

-- The last offset before the group was idle for too long, or nothing. What is
-- there after somebody read was not left behind until then.
local function left_behind(seen)
  local PAGE = 100
  local nextone, from = now, '+'
  while true do
    local page = redis.call('XREVRANGE', log, from, '-', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      local offset, time = offset_of(entry), tonumber(entry[2][2])
      if seen and seen >= time then return nextone - seen > idle and offset or nil end
      if nextone - time > idle then return offset end
      nextone = time
    end
    if #page < PAGE then return nil end
    from = '(' .. page[#page][1]
  end
end

-- Takes one, which is lent from now on.
local function lend(entry)
  entries[#entries + 1] = entry
  redis.call('ZADD', lent, int(now + lease), int(offset_of(entry)))
end

if known[1] then
  local last, removed = tonumber(known[2]), tonumber(known[5] or 0)
  local before = math.min(tonumber(known[3] or 0), last)
  local seen = tonumber(known[4])
  local mark = before
  local left = idle > 0 and left_behind(seen) or 0
  if left > 0 then
    for _, offset in ipairs(redis.call('ZRANGEBYSCORE', lent, '-inf', int(now))) do
      if tonumber(offset) <= left then redis.call('ZREM', lent, offset) end
    end
  end

  -- The mark moves over what nobody will get.
  local fresh, passed
  if is_sparse(group, before, removed) then
    local first
    fresh, first = fresh_of(log, lent, before, now)
    passed = math.max(#fresh - bound, 0)
    while fresh[passed + 1] and fresh[passed + 1] <= left do passed = passed + 1 end
    mark = fresh[passed] or before
    -- Those that are missing were trimmed, unless they were read once.
    local reached = first and first - 1 or last
    dropped = passed + math.max(reached - math.max(before, removed), 0)
  else
    mark = math.max(before, left, last - bound)
    local first = after(mark, 1)[1]
    dropped = math.max((first and offset_of(first) - 1 or last) - before, 0)
  end
  if not seen then dropped = 0 end

  for _, offset in ipairs(back_of(lent, mark, now)) do
    local entry = entry_at(log, int(offset))
    if not entry then
      redis.call('ZREM', lent, int(offset))
      dropped = dropped + 1
    elseif #entries < max then
      lend(entry)
    else
      break
    end
  end
  if fresh then
    for at = passed + 1, math.min(#fresh, passed + max - #entries) do
      lend(entry_at(log, int(fresh[at])))
    end
  elseif #entries < max then
    for _, entry in ipairs(after(mark, max - #entries)) do lend(entry) end
  end
  if #entries > 0 then
    mark = math.max(mark, offset_of(entries[#entries]))
    local expiry = redis.call('PTTL', base)
    if expiry > 0 then redis.call('PEXPIRE', lent, expiry) end
  end
  redis.call('HSET', base, mark_of, int(mark), seen_of, int(now))
end

redis.call('ZREMRANGEBYSCORE', waiting, '-inf', int(now))
if #entries == 0 and wait > 0 then
  redis.call('ZADD', waiting, int(now + wait), reader)
  -- Another reader may wait longer.
  local expiry = math.ceil(wait / 1000) + 1000
  if redis.call('PTTL', waiting) < expiry then redis.call('PEXPIRE', waiting, expiry) end
else
  redis.call('ZREM', waiting, reader)
end
return {known[1] or '', dropped, entries}
