-- Reads history for a client and changes nothing. KEYS: base, log.
-- ARGV: from, count.
-- Returns nothing if there is no head, else {epoch, offset, entries, removed}:
-- entries up to the last one may be missing because they were read once.
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'removed')
if not known[1] then return {} end
local entries = redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', tonumber(ARGV[2]))
return {known[1], known[2], entries, known[3] or '0'}
