-- Gives a publication its position, keeps it and announces it: one step, so
-- that none of the three can happen without the others.
--
-- `base` is `<prefix>:{<stream>}`: the stream's channel, the key of its head,
-- and what its log's key begins with, so that all are in one slot of a cluster.
-- The head is at the very key that callers name: while a cluster moves a slot,
-- it runs a script where the keys are that were named.
-- `settings` has: limit (publications kept), ttl (milliseconds they are kept),
-- verb (PUBLISH, or SPUBLISH in a cluster).
-- `data` is what was published; it is JSON if `is_json`, else any text.
-- `meta` is a JSON object, or nil, or empty.
-- `source` names where it came from, if that may bring it twice. The names of
-- the last ones are kept, and what has one of these was published before.
local SOURCES_KEPT = 1000

local function stamp_of(now, last)
  local time = tonumber(now[1]) * 1000000 + tonumber(now[2])
  local before = tonumber(last or 0)
  -- Clocks of two servers differ, and one can be set back; the stream's time
  -- only goes forward.
  if time <= before then time = before + 1 end
  return time
end

local function epoch_of(now)
  return string.format('%08x%05x', tonumber(now[1]), tonumber(now[2]))
end

local function publish(base, settings, data, is_json, meta, source)
  local rest
  if is_json then
    rest = '"json":' .. data
  else
    rest = '"data":' .. cjson.encode(data)
  end
  if meta and meta ~= '' then
    local understood, parsed = pcall(cjson.decode, meta)
    if not understood or type(parsed) ~= 'table' or not string.find(meta, '^%s*{') then
      return redis.error_reply('ERR pollux: meta must be a JSON object')
    end
    rest = rest .. ',"meta":' .. meta
    if parsed.transient == true then
      redis.call(settings.verb, base, '{' .. rest .. '}')
      return {'', 0, '0'}
    end
  else
    meta = nil
  end

  local head, log = base, base .. ':log'
  if settings.verb == 'SPUBLISH' then
    -- Fails, before anything has changed, while only one of the two has moved.
    redis.call('EXISTS', head, log)
  end
  local sources = base .. ':sources'
  local known = redis.call('HMGET', head, 'epoch', 'offset', 'time')
  if source and redis.call('ZSCORE', sources, source) then
    return {known[1] or '', -1, known[3] or '0'}
  end
  local now = redis.call('TIME')
  local epoch = known[1]
  if not epoch then
    epoch = epoch_of(now)
    -- A log without a head is from a life that nobody remembers.
    redis.call('DEL', log)
  end
  local offset = string.format('%.0f', tonumber(known[2] or 0) + 1)
  local time = string.format('%.0f', stamp_of(now, known[3]))
  redis.call('HSET', head, 'epoch', epoch, 'offset', offset, 'time', time)
  redis.call('PEXPIRE', head, settings.ttl * 10)
  if source then
    redis.call('ZADD', sources, time, source)
    redis.call('ZREMRANGEBYRANK', sources, 0, -SOURCES_KEPT - 1)
    redis.call('PEXPIRE', sources, settings.ttl * 10)
    rest = rest .. ',"source":"' .. source .. '"'
  end
  if settings.limit > 0 then
    local fields = {'time', time, is_json and 'json' or 'data', data}
    if meta then
      fields[#fields + 1] = 'meta'
      fields[#fields + 1] = meta
    end
    if source then
      fields[#fields + 1] = 'source'
      fields[#fields + 1] = source
    end
    redis.call('XADD', log, 'MAXLEN', settings.limit, offset .. '-0', unpack(fields))
    redis.call('PEXPIRE', log, settings.ttl)
  else
    redis.call('DEL', log)
  end
  redis.call(settings.verb, base,
    '{"epoch":"' .. epoch .. '","offset":' .. offset .. ',"time":' .. time .. ',' .. rest .. '}')
  return {epoch, tonumber(offset), time}
end
