-- Reads history for a client and changes nothing. KEYS: base. ARGV: from, count.
-- Returns nothing if there is no head, else {epoch, offset, entries}.
local known = redis.call('HMGET', KEYS[1] .. ':head', 'epoch', 'offset')
if not known[1] then return {} end
local entries = redis.call('XRANGE', KEYS[1] .. ':log', ARGV[1], '+', 'COUNT', tonumber(ARGV[2]))
return {known[1], known[2], entries}
