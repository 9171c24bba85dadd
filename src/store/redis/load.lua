-- ARGV: the version that the reader holds, or '', the number of the write that made it, time to live.
-- Gives: nothing | 'same' | 'foreign' | 'since', the meta, what was done since, then ids and turns of that |
-- 'all', all fields and their values.
local meta, state = read_meta()
if type(state) == 'table' then
  return state
end
if not meta then
  return state == 'foreign' and 'foreign' or false
end
redis.call('PEXPIRE', key, ARGV[3])
if meta.version == ARGV[1] then
  return 'same'
end

-- What has changed, if what the reader holds is a state that this one came from.
local function since(number)
  if not number or number >= meta.writes or meta.writes - number > WRITES then
    return nil
  end
  local held = redis.call('HGET', key, 'w' .. text(number))
  if not held or string.sub(held, 1, 32) ~= ARGV[1] then
    return nil
  end
  local done = {}
  for at = number + 1, meta.writes do
    local one = redis.call('HGET', key, 'w' .. text(at))
    if not one then
      return nil
    end
    done[#done + 1] = string.sub(one, 33)
  end
  done = table.concat(done)
  local answer, known = { 'since', redis.call('HGET', key, 'm'), done }, {}
  for at = 1, #done, 17 do
    local id = string.sub(done, at + 1, at + 16)
    if not known[id] then
      known[id] = true
      answer[#answer + 1] = id
      answer[#answer + 1] = redis.call('HGET', key, 't' .. id)
    end
  end
  return answer
end

return since(tonumber(ARGV[2])) or { 'all', redis.call('HGETALL', key) }
