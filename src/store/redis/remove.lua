-- ARGV: version, time to live, most tombstones, and for each turn: id, its head and what was removed of it as the
-- writer knows them, what is removed of it now, its items, bytes and value without that, or '' if it goes.
-- Gives: 'gone' if there is no ledger, 'again' if something has changed, or 'done', the version before and
-- the number of the write.
local version, most = ARGV[1], tonumber(ARGV[3])
local meta, state = read_meta()
if type(state) == 'table' then
  return state
end
if not meta then
  return { 'gone', '', 0 }
end
for at = 4, #ARGV, 7 do
  local id = ARGV[at]
  local head = redis.call('HGET', key, 'h' .. id) or ''
  local removed = redis.call('HGET', key, 'x' .. id) or ''
  if head ~= ARGV[at + 1] or removed ~= ARGV[at + 2] then
    return { 'again', '', 0 }
  end
end
-- The first write has to be one that a server without memory allows, for less is kept in the end.
redis.call('PEXPIRE', key, ARGV[2])
local done = {}
for at = 4, #ARGV, 7 do
  local id = ARGV[at]
  if ARGV[at + 2] == '' then
    redis.call('HSET', key, 'y' .. text(meta.xnext), id)
    meta.xnext = meta.xnext + 1
  end
  redis.call('HSET', key, 'x' .. id, ARGV[at + 3])
  local head = ARGV[at + 1] ~= '' and read_head(id)
  if head and ARGV[at + 6] == '' then
    drop(meta, id, head)
    done[#done + 1] = '-' .. id
    if head.provisional then
      unlist(head.context, id)
    end
  elseif head then
    meta.items = meta.items - head.items + tonumber(ARGV[at + 4])
    meta.bytes = meta.bytes - head.bytes + tonumber(ARGV[at + 5])
    local fields =
      { text(head.place), ARGV[at + 4], ARGV[at + 5], head.provisional and '1' or '0', head.context, version }
    redis.call('HSET', key, 'h' .. id, table.concat(fields, ' '), 't' .. id, ARGV[at + 6])
    done[#done + 1] = '+' .. id
  end
end
while meta.xnext - meta.xfirst > most do
  local place = 'y' .. text(meta.xfirst)
  local id = redis.call('HGET', key, place)
  if id then
    redis.call('HDEL', key, 'x' .. id, place)
  end
  meta.xfirst = meta.xfirst + 1
end
local before = meta.version
write_meta(meta, version, done)
return { 'done', before, meta.writes }
