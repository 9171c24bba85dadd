-- ARGV: version, time to live, most items, most bytes, id, items, bytes, provisional, context, turn, what the writer
-- knows to be removed of it.
-- Gives: 'done' | 'older' | 'removed', the version before ('' if there was no ledger) or what is removed, turns gone, number of the
-- write.
local version, life, most_items, most_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local id, items, bytes = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local provisional, context = ARGV[8] == '1', ARGV[9]

local meta, state = read_meta()
if type(state) == 'table' then
  return state
end
local held
if meta then
  local removed = redis.call('HGET', key, 'x' .. id) or ''
  if removed ~= ARGV[11] then
    return { 'removed', removed, 0, 0 }
  end
  held = read_head(id)
end
if held and not (held.provisional and not provisional) then
  if (provisional and not held.provisional) or items < held.items then
    redis.call('PEXPIRE', key, life)
    return { 'older', meta.version, 0, 0 }
  end
end
local superseded
if not provisional and meta then
  superseded = redis.call('HGET', key, 'p' .. context)
end

-- The first write has to be one that a server without memory refuses.
if state == 'foreign' then
  redis.call('DEL', key)
end
meta = meta or new_meta()
local before = meta.version
local place = held and held.place or meta.next
local head = table.concat({ text(place), ARGV[6], ARGV[7], ARGV[8], context, version }, ' ')
redis.call('HSET', key, 't' .. id, ARGV[10], 'h' .. id, head, 'o' .. text(place), id)
if held then
  meta.items = meta.items - held.items
  meta.bytes = meta.bytes - held.bytes
else
  meta.next = meta.next + 1
  meta.turns = meta.turns + 1
end
meta.items = meta.items + items
meta.bytes = meta.bytes + bytes

local done = { '+', id }
local was = held and held.provisional and held.context
local is = provisional and context
if was and was ~= is then
  unlist(was, id)
end
if is and was ~= is then
  redis.call('HSET', key, 'p' .. is, (redis.call('HGET', key, 'p' .. is) or '') .. id)
end
if superseded then
  for at = 1, #superseded, 16 do
    local other = string.sub(superseded, at, at + 15)
    local one = other ~= id and read_head(other)
    if one and one.provisional and one.context == context then
      drop(meta, other, one)
      done[#done + 1] = '-' .. other
    end
  end
  redis.call('HDEL', key, 'p' .. context)
end

local gone = 0
while (meta.items > most_items or meta.bytes > most_bytes) and meta.first < meta.next do
  local place = text(meta.first)
  local oldest = redis.call('HGET', key, 'o' .. place)
  if oldest then
    local one = read_head(oldest)
    if one and one.place == meta.first then
      drop(meta, oldest, one)
      if one.provisional then
        unlist(one.context, oldest)
      end
      done[#done + 1] = '-' .. oldest
      gone = gone + 1
    else
      redis.call('HDEL', key, 'o' .. place)
    end
  end
  meta.first = meta.first + 1
end
write_meta(meta, version, done)
redis.call('PEXPIRE', key, life)
return { 'done', before, gone, meta.writes }
