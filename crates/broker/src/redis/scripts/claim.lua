-- Lends entries that were read from history to one reader. KEYS: base, log,
-- lent. ARGV: verb, lease in microseconds, and an epoch and an offset for each.
-- Returns the epoch and the offsets that nobody has borrowed and that are still
-- there, or nothing.
local base, log, lent = unpack(KEYS)
together(ARGV[1])
local epoch = redis.call('HGET', base, 'epoch')
if not epoch then return {} end
local now, granted = micros(), {epoch}
for at = 3, #ARGV, 2 do
  local offset = ARGV[at + 1]
  local score = redis.call('ZSCORE', lent, offset)
  if ARGV[at] == epoch and not (score and tonumber(score) > now) and entry_at(log, offset) then
    redis.call('ZADD', lent, int(now + tonumber(ARGV[2])), offset)
    granted[#granted + 1] = offset
  end
end
if #granted > 1 then
  local left = redis.call('PTTL', base)
  if left > 0 then redis.call('PEXPIRE', lent, left) end
end
return granted
