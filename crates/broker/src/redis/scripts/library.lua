-- Several sets of nodes may share a server, each with a prefix of its own.
local settings = {@SETTINGS@}

redis.register_function('pollux_publish', function(keys, args)
  local prefix = #keys == 1 and string.match(keys[1], '^([^{}]+):{.+}$')
  local known = prefix and settings[prefix]
  if not known then
    return redis.error_reply('ERR pollux_publish: expected one key, @EXAMPLE@:{<stream>}')
  end
  if #args < 1 or #args > 2 then
    return redis.error_reply('ERR pollux_publish: expected data, and meta if there is any')
  end
  local result = publish(keys[1], known, args[1], false, args[2])
  if result.err then return result end
  return result[2]
end)

redis.register_function{
  function_name = 'pollux_version',
  callback = function() return '@VERSION@' end,
  flags = {'no-writes'},
}
