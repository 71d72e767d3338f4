-- Gates: what they look at in a record, and the walk through every place where a message can wait.
--
-- A gate is written `kind:value` (gate, tag, campaign, account, category). Claims ask what a record is under (`gate_names`);
-- the walk asks for each waiting message whether it is under one gate (`gate_test`), and reads for that its trailer and
-- the front of its record, not the text.

-- The names under which gates may hold or close a record.
local function gate_names(r)
  local _, name, tags = extras_of(r)
  local names = { 'category:' .. r.cat, 'account:' .. account_of(r.dims) }
  if name ~= '' then names[#names + 1] = 'gate:' .. name end
  for tag in string.gmatch(tags, '[^\30]+') do names[#names + 1] = 'tag:' .. tag end
  local campaign = string.match(r.dims, '^[^\31]*\31[^\31]*\31[^\31]*\31[^\31]*\31([^\31]*)')
  if campaign ~= '' then names[#names + 1] = 'campaign:' .. campaign end
  return names
end

-- The front of a record up to the end of its extras, and its dims; nil where there is no record.
local FRONT = 320
local function front_of(id)
  local front = call('GETRANGE', P .. 'msg:' .. id, 0, FRONT - 1)
  if #front < 32 then return nil end
  local ml, dl1, dl2, el1, el2 = byte(front, 25, 29)
  local dims_at, dims_len, extras_len = 33 + ml, dl1 * 256 + dl2, el1 * 256 + el2
  local size = dims_at + dims_len + extras_len - 1
  if size > #front then front = call('GETRANGE', P .. 'msg:' .. id, 0, size - 1) end
  return front, sub(front, dims_at, dims_at + dims_len - 1), sub(front, dims_at + dims_len, size)
end

-- A function that says whether the front of a record is under a gate.
local function gate_test(name)
  local kind, value = string.match(name, '^(%l+):(.*)$')
  if kind == 'category' then
    local cat = byte(value)
    return function(front) return byte(front, 22) == cat end
  elseif kind == 'account' then
    local own = value .. US
    return function(_, dims) return sub(dims, 1, #own) == own end
  elseif kind == 'campaign' then
    return function(_, dims)
      return string.match(dims, '^[^\31]*\31[^\31]*\31[^\31]*\31[^\31]*\31([^\31]*)') == value
    end
  elseif kind == 'gate' then
    return function(_, _, extras) return string.match(extras, '^[^\31]*\31([^\31]*)') == value end
  end
  local wanted_tag = RS .. value .. RS
  return function(_, _, extras)
    return find(RS .. string.match(extras, '^[^\31]*\31[^\31]*\31([^\31]*)') .. RS, wanted_tag, 1, true) ~= nil
  end
end

-- The places of a shard, in the order in which they are walked; messages move from the earlier ones to the later ones.
--   1due            scheduled, deferred, to be retried, uncertain: from the latest to the next
--   2q:<ring>       the queues of a ring, without those that hold nothing of the gate's account or category
--   3pin:<channel>:<category>
--   4held:<gate>    what a gate holds aside
--   5claims         in workers' hands; 6wait:<second> submitted, by when their receipts are overdue: only counted
local function places_of(name, channels, after, under_way, now)
  local found = {}
  local kind, value = string.match(name, '^(%l+):(.*)$')
  local function add(place)
    if place > after then found[#found + 1] = place end
  end
  add('1due')
  if after < '3' then
    for _, ring in ipairs(call('SMEMBERS', P .. 'rings')) do
      if kind ~= 'category' or sub(ring, -1) == value then add('2q:' .. ring) end
    end
  end
  for channel in string.gmatch(channels, '[^\31]+') do
    for cat = 0, 2 do
      if kind ~= 'category' or cat == tonumber(value) then add('3pin:' .. channel .. ':' .. cat) end
    end
  end
  add('4held:' .. name)
  local others = {}
  for _, other in ipairs(call('HKEYS', P .. 'gates')) do others[other] = true end
  for _, other in ipairs(call('SMEMBERS', P .. 'gatefree')) do others[other] = true end -- open, and not yet emptied
  for other in pairs(others) do
    if other ~= name then add('4held:' .. other) end
  end
  if under_way > 0 then
    add('5claims')
    local first = tonumber(call('GET', P .. 'wait:cursor') or '0')
    for bucket = first, (floor(now / 300000) + 1) * 300 + under_way, 300 do
      local place = '6wait:' .. bucket
      if place > after and call('EXISTS', P .. sub(place, 2)) == 1 then add(place) end
    end
  end
  table.sort(found)
  return found
end

-- The next accounts of a ring after one, in their order, and whether there are more: about `most`, for there may be
-- thousands, each with few messages, and putting all of them in order would hold the store for longer than a slice may.
local function accounts_after(ring, after, most, only)
  local found = {}
  for _, account in ipairs(call('LRANGE', P .. 'ring:' .. ring, 0, -1)) do
    if account > after and (not only or account == only) then found[#found + 1] = account end
  end
  local more = #found > 2 * most
  if more then
    local sample, few = {}, {}
    for i = 1, #found, floor(#found / 64) + 1 do sample[#sample + 1] = found[i] end
    table.sort(sample)
    local bound = sample[math.ceil(#sample * most / #found)]
    for i = 1, #found do
      if found[i] <= bound then few[#few + 1] = found[i] end
    end
    found = few
  end
  table.sort(found)
  return found, more
end

-- The account that a gate is about: other accounts' queues hold nothing of it.
local function account_gated(name)
  return string.match(name, '^account:(.*)$')
end

local function length_of(place, name)
  if place == '1due' then return call('ZCARD', P .. 'due') end
  if place == '5claims' then return 0 end
  if sub(place, 1, 1) ~= '2' then return call('LLEN', P .. sub(place, 2)) end
  local ring, only, sum = sub(place, 4), account_gated(name), 0
  if only then return call('LLEN', P .. 'q:' .. ring .. ':' .. only) end
  for _, account in ipairs(call('LRANGE', P .. 'ring:' .. ring, 0, -1)) do
    sum = sum + call('LLEN', P .. 'q:' .. ring .. ':' .. account)
  end
  return sum
end

-- A position: place (of a ring: 2q:<ring>:<account>) US entries of it that are done and stay US the last of these. Lists are walked from their tail and
-- `due` from its latest, because what leaves them in between leaves at the other end.
local function position_of(text)
  local place, done, last = string.match(text, '^([^\31]*)\31(%d+)\31(.*)$')
  return place or '', tonumber(done or 0), last or ''
end

-- Walk on from a position over at most `most` entries; `visit(id, state, place)` answers `gone` when an entry needs no
-- place any more, `stop` before one that is for the next call. Returns the new position ('' at the end), entries looked at.
local function walk(name, channels, position, most, under_way, now, visit)
  local place, done, last = position_of(position)
  local ring, account = string.match(place, '^2q:(.-:%d+:%d):(.*)$')
  local looked, left, left_at = 0, nil, 0
  local queues, queues_at, more, only = nil, 0, true, account_gated(name)
  local function next_queue()
    if queues_at == (queues and #queues or 0) then
      if not more then return false end
      queues, more = accounts_after(ring, account, most + 200, only)
      queues_at = 0
      if #queues == 0 then return false end
    end
    queues_at = queues_at + 1
    account = queues[queues_at]
    place = '2q:' .. ring .. ':' .. account
    return true
  end
  local function next_place()
    done, last = 0, ''
    if ring and next_queue() then return end
    left = left or places_of(name, channels, ring and '2q:' .. ring or place, under_way, now)
    repeat
      left_at = left_at + 1
      place, ring = left[left_at] or '', nil
      if sub(place, 1, 1) == '2' then
        ring, account, queues, queues_at, more = sub(place, 4), '', nil, 0, true
      end
    until not ring or next_queue()
  end
  if place == '' then next_place() end
  while place ~= '' do
    local key, kind = P .. sub(place, 2), sub(place, 1, 1)
    local ids
    if kind == '1' then
      local rank = last ~= '' and call('ZREVRANK', key, last)
      if rank then done = rank + 1 end
      ids = call('ZRANGE', key, done, done + most - looked - 1, 'REV')
    elseif kind == '5' then
      ids = {}
      for _, inc in ipairs(call('SMEMBERS', P .. 'holders')) do
        for _, entries in ipairs(call('HVALS', P .. 'claims:' .. inc)) do
          for at = 1, #entries, CLAIM do ids[#ids + 1] = sub(entries, at, at + CLAIM - 1) end
        end
      end
    else
      local tail = call('LRANGE', key, -(done + most - looked), -(done + 1))
      ids = {}
      for i = #tail, 1, -1 do ids[#ids + 1] = tail[i] end
    end
    local trimmed, gone_due, stopped = 0, {}, false
    for i = 1, #ids do
      local id = sub(ids[i], 1, ID)
      local tail = call('GETRANGE', P .. 'msg:' .. id, -T, -1)
      local answer = visit(id, sub(tail, 1, 1), kind, tail, ids[i])
      if answer == 'stop' then
        stopped = true
        break
      end
      looked = looked + 1
      if answer == 'gone' and kind == '1' then
        gone_due[#gone_due + 1] = id
      elseif answer == 'gone' and done == 0 and kind < '5' then
        trimmed = trimmed + 1
      else
        done, last = done + 1, kind == '1' and id or ''
      end
    end
    if #gone_due > 0 then call('ZREM', key, unpack(gone_due)) end
    if trimmed > 0 then
      call('RPOP', key, trimmed)
      if kind == '2' and call('EXISTS', key) == 0 then
        call('LREM', P .. 'ring:' .. ring, 1, account)
        if call('EXISTS', P .. 'ring:' .. ring) == 0 then call('SREM', P .. 'rings', ring) end
      end
    end
    if stopped then break end
    if looked >= most and kind ~= '5' then break end -- claims are read as a whole
    next_place()
    if looked >= most then break end
  end
  return place == '' and '' or place .. US .. done .. US .. last, looked
end

-- End a waiting message because of a closed gate. Where octets of it may have left nobody knows what became of them; a copy
-- that waits leaves its first attempt standing. Returns whether the message ended by this.
local function close_by_gate(r, now)
  local copy = has(r.flags, 64)
  finalise(r, has(r.flags, 8) and 'K' or 'C', 'gate_closed', '', '', now)
  return not copy
end
