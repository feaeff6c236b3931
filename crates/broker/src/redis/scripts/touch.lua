-- ARGV: verb, ttl in milliseconds, sessions. Returns those that nobody knows.
local verb, ttl = ARGV[1], tonumber(ARGV[2])
-- Those over the limit have their turn soon.
local EXPIRED_AT_ONCE = 1000
together(verb)
local now, unknown = millis(), {}
for at = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[2], 's:' .. ARGV[at]) == 1 then
    redis.call('ZADD', KEYS[3], string.format('%.0f', now + ttl), ARGV[at])
  else
    unknown[#unknown + 1] = ARGV[at]
  end
end
local over = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now),
  'LIMIT', 0, EXPIRED_AT_ONCE)
for _, session in ipairs(over) do gone(verb, session) end
if #ARGV > 2 then keep(ttl) end
return unknown
