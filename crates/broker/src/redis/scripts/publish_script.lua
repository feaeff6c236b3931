-- For backends whose Redis has no functions: EVALSHA with the same arguments
-- as the function.
local settings = {limit = @LIMIT@, ttl = @TTL@, verb = '@VERB@'}
if #KEYS ~= 1 or not string.find(KEYS[1], '^[^{}]+:{.+}$') then
  return redis.error_reply('ERR pollux: expected one key, <prefix>:{<stream>}')
end
if #ARGV < 1 or #ARGV > 2 then
  return redis.error_reply('ERR pollux: expected data, and meta if there is any')
end
local result = publish(KEYS[1], settings, ARGV[1], false, ARGV[2])
if result.err then return result end
return result[2]
