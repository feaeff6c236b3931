-- ARGV: verb, session, id, info, event, ttl in milliseconds. Returns 0 for the
-- first session of the id, 1 for a further one, 2 if the session has another id.
local verb, session, id, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
together(verb)
local known = redis.call('HGET', KEYS[2], 's:' .. session)
if known and known ~= id then return 2 end
redis.call('HSET', KEYS[2], 'i:' .. id, ARGV[4], 's:' .. session, id)
redis.call('ZADD', KEYS[3], string.format('%.0f', millis() + ttl), session)
local sessions = known and 2 or redis.call('HINCRBY', KEYS[2], 'n:' .. id, 1)
keep(ttl)
if sessions > 1 then return 1 end
tell(verb, ARGV[5])
return 0
