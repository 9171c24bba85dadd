-- Gives: how many turns there were. What else is at the key goes too.
local meta, state = read_meta()
if type(state) == 'table' then
  return state
end
if state ~= 'none' then
  redis.call('UNLINK', key)
end
return meta and meta.turns or 0
