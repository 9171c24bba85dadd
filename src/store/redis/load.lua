-- ARGV: the version that the reader holds, or '', time to live.
-- Gives: nothing | 'same' | 'foreign' | all fields and their values.
local meta, state = read_meta()
if type(state) == 'table' then
  return state
end
if not meta then
  return state == 'foreign' and 'foreign' or false
end
redis.call('PEXPIRE', key, ARGV[2])
if meta.version == ARGV[1] then
  return 'same'
end
return redis.call('HGETALL', key)
