local settings = {limit = @LIMIT@, ttl = @TTL@, verb = '@VERB@'}

redis.register_function('pollux_publish', function(keys, args)
  if #keys ~= 1 or not string.find(keys[1], '^[^{}]+:{.+}$') then
    return redis.error_reply('ERR pollux_publish: expected one key, <prefix>:{<stream>}')
  end
  if #args < 1 or #args > 2 then
    return redis.error_reply('ERR pollux_publish: expected data, and meta if there is any')
  end
  local result = publish(keys[1], settings, args[1], false, args[2])
  if result.err then return result end
  return result[2]
end)

redis.register_function{
  function_name = 'pollux_version',
  callback = function() return '@VERSION@' end,
  flags = {'no-writes'},
}
