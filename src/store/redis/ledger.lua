-- A ledger is one hash:
--   m         the meta: layout, version, turns, items, bytes, first and next place, first and next tombstone, writes
--   h<id>     the head of a turn: place, items, bytes, provisional, context, version of the write
--   t<id>     the turn
--   o<place>  the id of the turn at this place; places are numbered in the order of arrival
--   p<context>  the ids of the provisional turns with this context
--   x<id>     what was removed of a turn, so that a late writer does not bring it back
--   y<n>      the ids of the turns of which something was removed, in that order
--   w<n>      what the write n did: the version after it, then `+` or `-` and the id of each turn that it put or dropped
-- Scripts read first and write then, so that one that fails has changed nothing.
local key = KEYS[1]
local MOST = 9007199254740992
-- Readers that are at most so many writes behind are told only what has changed.
local WRITES = 64

local function text(number)
  return string.format('%.0f', number)
end

-- The meta; or nil with 'none', 'foreign' (something else is at the key) or the error of the server.
local function read_meta()
  local raw = redis.pcall('HGET', key, 'm')
  if type(raw) == 'table' then
    local wrong = string.find(raw.err or '', 'WRONGTYPE', 1, true)
    return nil, wrong and 'foreign' or raw
  end
  if not raw then
    return nil, redis.call('EXISTS', key) == 1 and 'foreign' or 'none'
  end
  local version, turns, items, bytes, first, next, xfirst, xnext, writes =
    string.match(raw, '^1 (%x+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not version or #version ~= 32 then
    return nil, 'foreign'
  end
  local meta = {
    version = version, turns = tonumber(turns), items = tonumber(items), bytes = tonumber(bytes),
    first = tonumber(first), next = tonumber(next), xfirst = tonumber(xfirst), xnext = tonumber(xnext),
    writes = tonumber(writes),
  }
  local most = math.max(meta.items, meta.bytes, meta.next, meta.xnext, meta.writes)
  if most >= MOST or meta.first > meta.next or meta.turns > meta.next - meta.first or meta.xfirst > meta.xnext then
    return nil, 'foreign'
  end
  return meta, nil
end

local function new_meta()
  return { version = '', turns = 0, items = 0, bytes = 0, first = 0, next = 0, xfirst = 0, xnext = 0, writes = 0 }
end

local function write_meta(meta, version, done)
  if meta.turns <= 0 then
    meta.turns, meta.items, meta.bytes, meta.first = 0, 0, 0, meta.next
  end
  local fields = {
    '1', version, text(meta.turns), text(math.max(meta.items, 0)), text(math.max(meta.bytes, 0)), text(meta.first),
    text(meta.next), text(meta.xfirst), text(meta.xnext), text(meta.writes + 1),
  }
  meta.writes = meta.writes + 1
  redis.call('HSET', key, 'm', table.concat(fields, ' '), 'w' .. text(meta.writes), version .. table.concat(done))
  redis.call('HDEL', key, 'w' .. text(meta.writes - WRITES - 1))
end

local function read_head(id)
  local raw = redis.call('HGET', key, 'h' .. id)
  local place, items, bytes, provisional, context =
    string.match(raw or '', '^(%d+) (%d+) (%d+) ([01]) (%x+) %x+$')
  if not place then
    return nil
  end
  return {
    place = tonumber(place), items = tonumber(items), bytes = tonumber(bytes), provisional = provisional == '1',
    context = context,
  }
end

-- Takes a turn off the list of provisional ones.
local function unlist(context, id)
  local ids = redis.call('HGET', key, 'p' .. context) or ''
  local rest = {}
  for at = 1, #ids, 16 do
    local one = string.sub(ids, at, at + 15)
    if one ~= id then
      rest[#rest + 1] = one
    end
  end
  if #rest == 0 then
    redis.call('HDEL', key, 'p' .. context)
  else
    redis.call('HSET', key, 'p' .. context, table.concat(rest))
  end
end

local function drop(meta, id, head)
  redis.call('HDEL', key, 'h' .. id, 't' .. id, 'o' .. text(head.place))
  meta.turns = meta.turns - 1
  meta.items = meta.items - head.items
  meta.bytes = meta.bytes - head.bytes
end
