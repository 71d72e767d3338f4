#!lua flags=allow-oom
--@include _record
-- Apply final receipts to the messages whose parts they name, a batch at a time.
--
-- Promise: the first final receipt of a part counts; the message is final when all its parts are, with the worst state.
--   Only `unknown` and `expired` are corrected, to `delivered`. A receipt whose address is not the message's changes
--   nothing. The SMSC id of a delivered part is forgotten: a receipt that comes again finds it in its message's log.
-- Repeat: a part that is done answers `d`.
-- KEYS 1 prefix
-- ARGV 1-3 retention_s  4 days an SMSC id may be old  5 number of classes, then for each class 4 values: channel, state
--   letter, reason, carrier code; then for each item 3 values: class number, address digits (or ''), spellings of its
--   SMSC id, likeliest first (channel:smsc_id, US between them)
-- Returns  one letter an item in one string: f final | p part noted | d duplicate | c corrected | q known, but as another
--   number's | n not known | m its record is gone; the place of the spelling that matched, one digit an item; the final
--   states made (see `finish`)
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local now = time_ms()
local now_text, now6 = log_time(now), be6(now)
local classes, first = {}, 6
for i = 1, tonumber(ARGV[5]) do
  local channel, state, reason, code = unpack(ARGV, first, first + 3)
  classes[tostring(i)] = { channel = channel, state = state, reason = reason, code = code, items = {} }
  first = first + 4
end
local function item_of(cls, part)
  local item = cls.items[part]
  if not item then
    item = log_item('R', now_text .. US .. part .. US .. cls.channel .. US .. cls.state .. US .. cls.reason .. US .. cls.code)
    cls.items[part] = item
  end
  return item
end

-- Look up all spellings of all ids, then all records.
local n = (#ARGV - first + 1) / 3
local fields, field_at = {}, {} -- item i has the fields from field_at[i] to field_at[i + 1] - 1
for i = 1, n do
  local names = ARGV[first + i * 3 - 1]
  field_at[i] = #fields + 1
  if find(names, US, 1, true) then
    for name in string.gmatch(names, '[^\31]+') do fields[#fields + 1] = name end
  else
    fields[#fields + 1] = names
  end
end
field_at[n + 1] = #fields + 1
local values, places = find_smsc_ids(fields, now, tonumber(ARGV[4]))
local ids, keys, place, place_of = {}, {}, {}, {}
for f = 1, #fields do
  if values[f] then
    local id = sub(values[f], 1, ID)
    local at = place[id]
    if not at then
      at = #ids + 1
      ids[at], keys[at], place[id] = id, P .. 'msg:' .. id, at
    end
    place_of[f] = at
  end
end
local raws = #keys > 0 and call('MGET', unpack(keys)) or {}
local records = {} -- those that take the long way, by place: one record may have several items

local function is_address(raw, address)
  local ml = byte(raw, 25)
  local l = ml < 8 and ml or 8
  return sub(raw, 33 + ml - l, 32 + ml) == sub(address, -l)
end

-- The place and part of the message that item i names; else nil and why not.
local function match(i, address)
  local why = 'n'
  for f = field_at[i], field_at[i + 1] - 1 do
    local at = place_of[f]
    if at then
      if not raws[at] then
        if why == 'n' then why = 'm' end
      elseif address ~= '' and is_address(raws[at], address) or address == '' and f == field_at[i] then
        return at, byte(values[f], ID + 1) - 48, f
      else
        why = 'q'
      end
    end
  end
  return nil, why
end

local function loosely(smsc_id)
  return (string.gsub(string.lower(smsc_id), '^0+', ''))
end

-- The same by the recipient's number: the SMSC id stands in the log of one of its latest messages.
local function match_by_number(i, address, channel)
  local value = call('HGET', num_key(now, 0), address) or call('HGET', num_key(now, 1), address)
  if not value then return nil end
  local wanted = {}
  for f = field_at[i], field_at[i + 1] - 1 do wanted[loosely(sub(fields[f], #channel + 2))] = true end
  local latest = ids_of_number(value)
  for k = #latest, 1, -1 do
    local id = latest[k]
    local at = place[id]
    local raw = at and raws[at] or not at and call('GET', P .. 'msg:' .. id)
    local part = nil
    if raw then
      each_attempt(raw, function(by, smsc_ids)
        for number, smsc_id in string.gmatch(smsc_ids, '(%d+)=([^,]*)') do
          if by == channel and wanted[loosely(smsc_id)] then part = tonumber(number) end
        end
      end)
    end
    if part then
      if not at then
        at = #ids + 1
        ids[at], keys[at], place[id], raws[at] = id, P .. 'msg:' .. id, at, raw
      end
      return at, part
    end
  end
end

local worse = { D = 1, K = 2, E = 3, U = 4, R = 5 }

-- Every case but the plain one.
local function apply(r, part, channel, state, reason, item)
  local mask = 2 ^ part
  local closed = find('DUREKCFB', r.state, 1, true)
  if find('CFB', r.state, 1, true) then return 'd' end
  if has(r.done, mask) and not (state == 'D' and not has(r.delivered, mask) and closed) then return 'd' end
  if not has(r.done, mask) then
    r.done = r.done + mask
    if r.worst == '-' or worse[state] > worse[r.worst] then r.worst = state end
  end
  if state == 'D' then r.delivered = bit.bor(r.delivered, mask) end
  local all = 2 ^ r.parts - 1
  if closed then
    -- Closed before this receipt: only unknown and expired are corrected, when every part is delivered.
    local answer = 'd'
    if (r.state == 'K' or r.state == 'E') and r.delivered == all then
      if not r.test then
        count_as(r.dims, r.cat .. US .. channel .. US .. r.state .. US .. 'late_correction', -1)
      end
      r.state, r.worst = 'D', 'D'
      r.flags = bit.bor(r.flags, 2)
      count(r, channel, 'D', 'late_correction')
      answer = 'c'
    end
    write_record(r, now, item)
    return answer
  end
  -- A copy that waits is cancelled by this; one that a worker holds no longer counts as waiting.
  local waits = find('rhfw', r.state, 1, true) or (r.state == 'q' and not held(r))
  r.flags = bit.bor(r.flags, 8)
  if r.done == all then
    if waits then waiting_delta = waiting_delta - 1 end
    r.state = r.worst
    write_record(r, now, item)
    keep_until_purged(r.id, r.cat, now)
    count(r, channel, r.state, reason)
    return 'f'
  end
  write_record(r, r.state == 'q' and r.state_at or now, item) -- a claim holds as long as the time stands
  return 'p'
end

local final = {} -- category → channel → state → reason → what statistics call it
local function final_as(cat, channel, state, reason)
  local key = state .. reason
  local by = final[channel]
  if not by then
    by = { [0] = {}, {}, {} }
    final[channel] = by
  end
  local suffix = by[cat][key]
  if not suffix then
    suffix = cat .. US .. channel .. US .. state .. US .. reason
    by[cat][key] = suffix
  end
  return suffix
end

local touched, answers, matched, delivered = {}, {}, {}, {}
for i = 1, n do
  local b = first + (i - 1) * 3
  local cls, address = classes[ARGV[b]], ARGV[b + 1]
  local channel, state, reason = cls.channel, cls.state, cls.reason
  local at, part, f = match(i, address)
  local answer = part
  if not at and part == 'n' and address ~= '' then
    local found, of = match_by_number(i, address, channel)
    if found then at, part = found, of end
  end
  if at then
    local raw = raws[at]
    local t = #raw - T
    local was, rank, attempt, flags, d1, d2, _, _, a1, a2, _, slow = byte(raw, t + 1, t + 12)
    if was == 115 and byte(raw, 23) == 1 and not touched[at] and d1 == 0 and d2 == 0 then
      -- The plain case: one part, submitted, its first receipt.
      touched[at] = true
      call('SETRANGE', keys[at], t, item_of(cls, part) .. state .. char(rank, attempt, bit.bor(flags, 8), 0, 1, 0,
        state == 'D' and 1 or 0, a1, a2) .. state .. char(slow) .. now6 .. sub(raw, t + 19))
      local cat = byte(raw, 22) - 48
      keep_until_purged(ids[at], cat, now)
      if byte(raw, 24) % 2 == 0 then
        local ml, dl1, dl2 = byte(raw, 25, 27)
        count_as(sub(raw, 33 + ml, 32 + ml + dl1 * 256 + dl2), final_as(cat, channel, state, reason), 1)
      end
      answer = 'f'
    else
      if touched[at] == true then
        records[at] = read_record(ids[at], call('GET', keys[at]))
      elseif not records[at] then
        records[at] = read_record(ids[at], raw)
      end
      touched[at] = 'long'
      answer = apply(records[at], part, channel, state, reason, item_of(cls, part))
    end
    if state == 'D' and f then
      local list = delivered[places[f]]
      if list then list[#list + 1] = fields[f] else delivered[places[f]] = { fields[f] } end
    end
  end
  answers[i] = answer
  matched[i] = f and f - field_at[i] + 1 or 0
end
for key, list in pairs(delivered) do call('HDEL', key, unpack(list)) end
return { table.concat(answers), table.concat(matched), finish(now) }
