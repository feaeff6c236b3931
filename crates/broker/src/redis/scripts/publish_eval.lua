-- For nodes. KEYS: base, log. ARGV: limit, ttl, verb, kind, data, meta.
return publish(KEYS[1],
  {limit = tonumber(ARGV[1]), ttl = tonumber(ARGV[2]), verb = ARGV[3]},
  ARGV[5], ARGV[4] == 'json', ARGV[6])
