-- For backends whose Redis has no functions: EVALSHA with the same arguments
-- as the function.
local settings = {@SETTINGS@}
local prefix = #KEYS == 1 and string.match(KEYS[1], '^([^{}]+):{.+}$')
local known = prefix and settings[prefix]
if not known then
  return redis.error_reply('ERR pollux: expected one key, @EXAMPLE@:{<stream>}')
end
if #ARGV < 1 or #ARGV > 2 then
  return redis.error_reply('ERR pollux: expected data, and meta if there is any')
end
local result = publish(KEYS[1], known, ARGV[1], false, ARGV[2])
if result.err then return result end
return result[2]
