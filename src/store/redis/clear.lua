-- KEYS: any key that lies on the node. ARGV: cursor, pattern, keys at once, prefix.
-- Gives: the next cursor, and how many ledgers went.
local prefix = ARGV[4]
local answer = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local gone = 0
for _, key in ipairs(answer[2]) do
  local scope = string.sub(key, #prefix + 1)
  if string.sub(key, 1, #prefix) == prefix and #scope == 64 and not string.find(scope, '[^0-9a-f]') then
    -- A key that is on its way to another node goes there.
    local count = redis.pcall('UNLINK', key)
    gone = gone + (type(count) == 'number' and count or 0)
  end
end
return { answer[1], gone }
