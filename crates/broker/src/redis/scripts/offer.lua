-- Publishes if there is room for it. KEYS: base, log, lent, waiting. ARGV:
-- limit, ttl, verb, kind, data, meta, group, capacity. Returns what publishing
-- returns, or nothing if it is full.
local now = micros()
together(ARGV[3])
local pending = waiting_for(KEYS[1], KEYS[2], KEYS[3], ARGV[7], now)
local readers = redis.call('ZCOUNT', KEYS[4], '(' .. int(now), '+inf')
if pending >= tonumber(ARGV[8]) + readers then return {} end
return publish(KEYS[1],
  {limit = tonumber(ARGV[1]), ttl = tonumber(ARGV[2]), verb = ARGV[3]},
  ARGV[5], ARGV[4] == 'json', ARGV[6])
