-- Takes published entries out of the intake. KEYS: intake. ARGV: group, ids.
local ids = {unpack(ARGV, 2)}
redis.call('XDEL', KEYS[1], unpack(ids))
return redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
