-- What the scripts for presence share. KEYS: base, presence, until. The second
-- is a hash: `s:<session>` is the session's id, `n:<id>` how many sessions the id
-- has, `i:<id>` what it says of itself. The third has each session's last
-- millisecond.
local function millis()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

local function tell(verb, event)
  redis.call(verb, KEYS[1],
    '{"json":' .. event .. ',"meta":{"broadcast_type":"presence","transient":true}}')
end

local function together(verb)
  if verb == 'SPUBLISH' then redis.call('EXISTS', unpack(KEYS)) end
end

local function gone(verb, session)
  local id = redis.call('HGET', KEYS[2], 's:' .. session)
  redis.call('ZREM', KEYS[3], session)
  if not id then return end
  redis.call('HDEL', KEYS[2], 's:' .. session)
  if redis.call('HINCRBY', KEYS[2], 'n:' .. id, -1) > 0 then return end
  redis.call('HDEL', KEYS[2], 'n:' .. id, 'i:' .. id)
  tell(verb, '{"id":' .. cjson.encode(id) .. ',"type":"leave"}')
end

-- Nodes look often enough that nobody's end is missed before the keys expire.
local function keep(ttl)
  redis.call('PEXPIRE', KEYS[2], ttl * 4)
  redis.call('PEXPIRE', KEYS[3], ttl * 4)
end
