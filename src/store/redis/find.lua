-- ARGV: ids of turns.
-- Gives: nothing if there is no ledger, or for each id its head, turn, and what is removed of it.
local meta, state = read_meta()
if type(state) == 'table' then
  return state
end
if not meta then
  return false
end
local found = {}
for _, id in ipairs(ARGV) do
  found[#found + 1] = redis.call('HGET', key, 'h' .. id)
  found[#found + 1] = redis.call('HGET', key, 't' .. id)
  found[#found + 1] = redis.call('HGET', key, 'x' .. id)
end
return found
