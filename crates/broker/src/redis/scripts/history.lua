-- Reads history for a client and changes nothing. KEYS: base, log.
-- ARGV: from, count.
-- Returns nothing if there is no head, else {epoch, offset, entries}.
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
if not known[1] then return {} end
local entries = redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', tonumber(ARGV[2]))
return {known[1], known[2], entries}
