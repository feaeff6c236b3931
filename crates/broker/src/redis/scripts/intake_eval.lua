-- For nodes: several publications of one stream, each told apart by where it
-- came from, in their order. KEYS: base, log, sources. ARGV: limit, ttl, verb,
-- then for each publication: source, kind, data, meta. Returns for each whether
-- it was published now (1) or had been before (0), or stops at the first one
-- that fails and returns the error.
local settings = {limit = tonumber(ARGV[1]), ttl = tonumber(ARGV[2]), verb = ARGV[3]}
local results = {}
for at = 4, #ARGV, 4 do
  local result = publish(KEYS[1], settings, ARGV[at + 2], ARGV[at + 1] == 'json', ARGV[at + 3], ARGV[at])
  if result.err then return result end
  results[#results + 1] = result[2] == -1 and 0 or 1
end
return results
