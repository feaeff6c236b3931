-- What a node that has everything up to ARGV (epoch, offset, time) has missed.
-- KEYS: base, log. ARGV: epoch, offset, time, count. Returns nothing if there is no
-- head, else {epoch, offset, time, relation, low, entries}: the head; 'same' if
-- the entries follow the node's, 'other' if the node knows another life of the
-- stream, and then the entries are those with a later time; the first offset
-- kept, 0 for none.
--
-- A server that came back from a copy may have forgotten publications that
-- nodes have, and given their offsets to others. Then the stream gets a new
-- epoch here, because the old offsets have two meanings.
local head, log = KEYS[1], KEYS[2]
local epoch, offset, time, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local known = redis.call('HMGET', head, 'epoch', 'offset', 'time')
if not known[1] then return {} end
if count == 0 then return {known[1], known[2], known[3], 'same', '0', {}} end

local function low()
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  return first and string.match(first[1], '^%d+') or '0'
end

if known[1] == epoch then
  local last, stamp = tonumber(known[2]), tonumber(known[3])
  if last == offset and stamp == time then
    return {known[1], known[2], known[3], 'same', '0', {}}
  end
  local forked = last <= offset or stamp <= time
  if not forked and offset > 0 then
    local mine = redis.call('XRANGE', log, ARGV[2] .. '-0', ARGV[2] .. '-0')[1]
    -- 'time' is the first field of every entry.
    forked = mine and tonumber(mine[2][2]) ~= time
  end
  if not forked then
    local entries = redis.call('XRANGE', log, string.format('%.0f-0', offset + 1), '+', 'COUNT', count)
    return {known[1], known[2], known[3], 'same', low(), entries}
  end
  local now = redis.call('TIME')
  known[1] = string.format('%08x%05x', tonumber(now[1]), tonumber(now[2]))
  redis.call('HSET', head, 'epoch', known[1])
end

local later = {}
for _, entry in ipairs(redis.call('XRANGE', log, '-', '+')) do
  if #later == count then break end
  if tonumber(entry[2][2]) > time then later[#later + 1] = entry end
end
return {known[1], known[2], known[3], 'other', low(), later}
