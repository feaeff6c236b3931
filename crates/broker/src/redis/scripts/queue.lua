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

-- What waits behind the mark.
local function fresh(head, log, group)
  local known = redis.call('HMGET', head, 'offset', 'mark:' .. group)
  local behind = math.max(tonumber(known[1] or 0) - tonumber(known[2] or 0), 0)
  if behind == 0 then return 0 end
  return math.min(behind, redis.call('XLEN', log))
end

local function waiting_for(head, log, lent, group, now)
  return fresh(head, log, group) + redis.call('ZCOUNT', lent, '-inf', int(now))
end
