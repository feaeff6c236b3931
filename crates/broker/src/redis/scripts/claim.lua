-- Lends entries that were read from history to one reader. KEYS: base, log,
-- lent. ARGV: verb, epoch, lease in microseconds, offsets. Returns the offsets
-- that nobody has borrowed and that are still there.
local base, log, lent = unpack(KEYS)
together(ARGV[1])
if redis.call('HGET', base, 'epoch') ~= ARGV[2] then return {} end
local now, granted = micros(), {}
for at = 4, #ARGV do
  local offset = ARGV[at]
  local score = redis.call('ZSCORE', lent, offset)
  if not (score and tonumber(score) > now) and entry_at(log, offset) then
    redis.call('ZADD', lent, int(now + tonumber(ARGV[3])), offset)
    granted[#granted + 1] = offset
  end
end
if #granted > 0 then
  local left = redis.call('PTTL', base)
  if left > 0 then redis.call('PEXPIRE', lent, left) end
end
return granted
