-- Takes an entry that can't be published out of the intake, and keeps it where
-- people can look at it. KEYS: intake, aside. ARGV: group, id, reason, payload.
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', 'id', ARGV[2], 'reason', ARGV[3], 'payload', ARGV[4])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
