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
-- `source` is where it came from, if that can tell it twice: {ms, sequence,
-- index}. What is not after the last one of this stream was published before.
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

local function is_after(source, mark)
  if not mark then return true end
  local ms, sequence, index = string.match(mark, '^(%d+)-(%d+)-(%d+)$')
  if not ms then return true end
  local old = {tonumber(ms), tonumber(sequence), tonumber(index)}
  for place = 1, 3 do
    if source[place] ~= old[place] then return source[place] > old[place] end
  end
  return false
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
  local known = redis.call('HMGET', head, 'epoch', 'offset', 'time', 'source')
  if source and not is_after(source, known[4]) then
    return {known[1], -1, known[3]}
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
  local changes = {'epoch', epoch, 'offset', offset, 'time', time}
  if source then
    changes[7] = 'source'
    changes[8] = string.format('%.0f-%.0f-%.0f', source[1], source[2], source[3])
  end
  redis.call('HSET', head, unpack(changes))
  redis.call('PEXPIRE', head, settings.ttl * 10)
  if settings.limit > 0 then
    local fields = {'time', time, is_json and 'json' or 'data', data}
    if meta then
      fields[5] = 'meta'
      fields[6] = meta
    end
    redis.call('XADD', log, 'MAXLEN', settings.limit, offset .. '-0', unpack(fields))
    redis.call('PEXPIRE', log, settings.ttl)
  end
  redis.call(settings.verb, base,
    '{"epoch":"' .. epoch .. '","offset":' .. offset .. ',"time":' .. time .. ',' .. rest .. '}')
  return {epoch, tonumber(offset), time}
end
