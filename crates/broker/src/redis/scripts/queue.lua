-- What the scripts for competing readers share. A group's mark, the last offset
-- that was ever taken, is a field of the stream's head, so that the two can't
-- come apart. What is lent is in a sorted set of offsets by the microsecond
-- their lease ends; what has come back has a score in the past.
local function micros()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

local function int(number)
  return string.format('%.0f', number)
end

-- In a cluster that moves the slot this fails, before anything has changed,
-- while only some of the keys have moved.
local function together(verb)
  if verb == 'SPUBLISH' then redis.call('EXISTS', unpack(KEYS)) end
end

local function entry_at(log, offset)
  return redis.call('XRANGE', log, offset .. '-0', offset .. '-0')[1]
end

local function offset_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

-- Whether somebody has it at this moment.
local function is_lent(lent, offset, now)
  local until_when = redis.call('ZSCORE', lent, int(offset))
  return until_when and tonumber(until_when) > now
end

-- Whether there may be holes behind the mark, or entries that somebody has.
local function is_sparse(group, mark, removed)
  return group == 'once' or removed > mark
end

-- The offsets of what nobody has taken yet, or claimed; and the first one that
-- is there.
local function fresh_of(log, lent, mark, now)
  local offsets, first = {}, nil
  for _, entry in ipairs(redis.call('XRANGE', log, int(mark + 1) .. '-0', '+')) do
    local offset = offset_of(entry)
    first = first or offset
    if not is_lent(lent, offset, now) then offsets[#offsets + 1] = offset end
  end
  return offsets, first
end

-- What has come back and was taken before, oldest first.
local function back_of(lent, mark, now)
  local back = {}
  for _, offset in ipairs(redis.call('ZRANGEBYSCORE', lent, '-inf', int(now))) do
    offset = tonumber(offset)
    if offset <= mark then back[#back + 1] = offset end
  end
  table.sort(back)
  return back
end

local function waiting_for(head, log, lent, group, now)
  local known = redis.call('HMGET', head, 'offset', 'mark:' .. group, 'removed')
  local last = tonumber(known[1] or 0)
  local mark, removed = math.min(tonumber(known[2] or 0), last), tonumber(known[3] or 0)
  local fresh
  if is_sparse(group, mark, removed) then
    fresh = #fresh_of(log, lent, mark, now)
  else
    fresh = math.min(last - mark, redis.call('XLEN', log))
  end
  for _, offset in ipairs(back_of(lent, mark, now)) do
    if entry_at(log, int(offset)) then fresh = fresh + 1 end
  end
  return fresh
end
